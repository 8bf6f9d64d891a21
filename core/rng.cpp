#include <fprnn/core/parallel.h>
#include <fprnn/core/rng.h>

#include <cmath>
#include <numbers>

namespace fprnn {

namespace {

// Box-Muller on the words 2 i and 2 i + 1, in double: the first is kept away from 0.
real standard_normal(const Rng& rng, int64_t i) {
  const double u = (rng.bits(2 * i) + 1.0) * 0x1p-32;
  const double angle = 2.0 * std::numbers::pi * rng.bits(2 * i + 1) * 0x1p-32;
  return static_cast<real>(std::sqrt(-2.0 * std::log(u)) * std::cos(angle));
}

Tensor fill(const Context& context, const Shape& shape, RandomFill::Distribution distribution,
            real offset, real scale, Rng& rng) {
  Tensor out(context, shape);
  launch(context, RandomFill{.out = out.data(),
                             .count = out.elements(),
                             .rng = rng.next_stream(),
                             .distribution = distribution,
                             .offset = offset,
                             .scale = scale});
  return out;
}

}  // namespace

Tensor uniform(const Context& context, const Shape& shape, real low, real high, Rng& rng) {
  return fill(context, shape, RandomFill::kUniform, low, high - low, rng);
}

Tensor normal(const Context& context, const Shape& shape, real mean, real deviation, Rng& rng) {
  return fill(context, shape, RandomFill::kNormal, mean, deviation, rng);
}

void run(Cpu cpu, const RandomFill& args) {
  const bool is_uniform = args.distribution == RandomFill::kUniform;
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      args.out[i] = args.offset +
                    args.scale * (is_uniform ? args.rng.uniform(i) : standard_normal(args.rng, i));
  });
}

}  // namespace fprnn
