#include <fprnn/core/simd.h>
#include <fprnn/ops/outer.h>

namespace fprnn::FPRNN_ISA {

void add_outer_forward(const AddOuter& args, int64_t begin, int64_t end) {
  const int64_t M = args.M, N = args.N;
  for_lanes(N, [&](int64_t n, auto lanes) {
    for (int64_t token = begin; token < end; ++token) {
      const Vec v = lanes.load(args.v + token * N + n);
      for (int64_t row = token * M; row < (token + 1) * M; ++row)
        lanes.store(args.out + row * N + n, lanes.load(args.h + row * N + n) + args.u[row] * v);
    }
  });
}

}  // namespace fprnn::FPRNN_ISA
