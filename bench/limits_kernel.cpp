#include <fprnn/core/vector_math.h>

namespace fprnn::FPRNN_ISA {

// 2^x of every element, again and again; the result, negated, is the next argument.
void bench_exponentials(real* x, int64_t count, int64_t repeats) {
  for (int64_t i = 0; i < repeats; ++i)
    for_packs(count, [&](int64_t at, auto packs) {
      packs.store(x + at, exp2_decay(-packs.load(x + at)));
    });
}

// x <- x a + b in twelve vectors at once, which never leave the registers. Returns how many
// multiply-adds of one element that was.
int64_t bench_multiply_adds(real* x, int64_t repeats) {
  Pack<12> sums;
  const Vec a = splat(x[0]), b = splat(x[1]);
  repeat<12>([&](int i) FPRNN_LAMBDA { sums.v[i] = splat(x[i]); });
  for (int64_t n = 0; n < repeats; ++n)
    repeat<12>([&](int i) FPRNN_LAMBDA { sums.v[i] = sums.v[i] * a + b; });
  repeat<12>([&](int i) FPRNN_LAMBDA { x[i] = sum(sums.v[i]); });
  return repeats * 12 * kLanes;
}

}  // namespace fprnn::FPRNN_ISA
