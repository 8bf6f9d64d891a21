// Random numbers as a pure function of (seed, stream, index): Philox4x32-10 (Salmon et al., SC
// 2011). Element i of a tensor takes word i % 4 of block i / 4, so neither threads nor devices
// change it.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/tensor.h>

#include <array>
#include <cmath>
#include <limits>
#include <numbers>

namespace fprnn {

// Four random words.
using PhiloxBlock = std::array<uint32_t, 4>;

// The block of that number in the stream of a key.
FPRNN_HOST_DEVICE constexpr PhiloxBlock philox(PhiloxBlock counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// One stream of random words. Reading never changes it; next_stream() moves to fresh numbers.
struct Rng {
  uint64_t seed = 0;
  uint64_t stream = 0;

  // The word of that index.
  FPRNN_HOST_DEVICE constexpr uint32_t bits(uint64_t index) const {
    const uint64_t block = index / 4;
    return philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                   static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                  {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)})[index % 4];
  }
  // In [0, 1): the upper 24 bits of the word, which float and double hold exactly.
  FPRNN_HOST_DEVICE constexpr real uniform(uint64_t index) const {
    return static_cast<real>(bits(index) >> 8) * static_cast<real>(1.0 / (1 << 24));
  }
  // In [0, n), n <= 2^32: the high word of bits * n; the bias is below n / 2^32.
  FPRNN_HOST_DEVICE constexpr uint32_t below(uint64_t index, uint64_t n) const {
    return static_cast<uint32_t>((uint64_t{bits(index)} * n) >> 32);
  }
  // The stream as it is; this becomes the next one.
  constexpr Rng next_stream() { return {seed, stream++}; }
};

// Tensors drawn from the next stream of rng. uniform: in [low, high), or low where both are equal;
// finite where both are.
Tensor uniform(const Context& context, const Shape& shape, real low, real high, Rng& rng);
Tensor normal(const Context& context, const Shape& shape, real mean, real deviation, Rng& rng);

// Of the elements of random tensors.
enum class Distribution { uniform, normal, keep };

// Element i of a stream. uniform: in [0, 1). normal: standard, by the Box-Muller method in double
// on the words 2 i, kept away from 0, and 2 i + 1. keep: 1 where a uniform number is at least
// `rate`, else 0.
FPRNN_HOST_DEVICE inline real random_number(Distribution distribution, double rate, const Rng& rng,
                                            int64_t i) {
  if (distribution == Distribution::uniform) return rng.uniform(i);
  if (distribution == Distribution::keep) return rng.uniform(i) >= rate ? 1 : 0;
  const double u = (rng.bits(2 * i) + 1.0) * 0x1p-32;
  const double angle = 2.0 * std::numbers::pi * rng.bits(2 * i + 1) * 0x1p-32;
  return static_cast<real>(std::sqrt(-2.0 * std::log(u)) * std::cos(angle));
}

struct RandomFill {
  real* out = nullptr;  // (count)
  int64_t count = 0;
  Rng rng = {};
  Distribution distribution;
  real offset, scale;  // uniform: low, high - low; normal: mean, deviation; keep: 0, 1
  double rate = 0;     // of keep
  real times = 1;      // 2 where offset and scale are halved since high - low overflows
  real least = -std::numeric_limits<real>::infinity(), most = -least;

  // The element with value = offset + scale * number, which rounding may have raised to high.
  FPRNN_HOST_DEVICE real placed(real value) const {
    value *= times;
    return value < least ? least : value > most ? most : value;
  }
};
void run(Cpu, const RandomFill&);
void run(Cuda, const RandomFill&);

}  // namespace fprnn
