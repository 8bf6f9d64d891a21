#include <fprnn/core/vector_math.h>

namespace fprnn::FPRNN_ISA {

// 2^x of every element, again and again; the result, negated, is the next argument.
void bench_exponentials(real* x, int64_t count, int64_t repeats) {
  for (int64_t i = 0; i < repeats; ++i)
    for_packs(count, [&](int64_t at, auto packs) {
      packs.store(x + at, exp2_normal(-packs.load(x + at)));
    });
}

}  // namespace fprnn::FPRNN_ISA
