#include <fprnn/ops/krylov_row.h>

namespace fprnn::FPRNN_ISA {

void kronecker_solve(const KroneckerSolve& args, real* space, int64_t begin, int64_t end) {
  const int64_t m1 = args.m1, m2 = args.m2, D = m1 * m2;
  real *const product = space, *const left_x = product + D, *const gain = left_x + D;
  real *const ask = gain + D, *const own = ask + D;
  for (int64_t token = begin; token < end; ++token) {
    const real* const left = args.left + token * m1 * m1;
    const real* const right = args.right + token * m2 * m2;
    real* const y = args.y + token * D;
    for_lanes(D, [&](int64_t d, auto lanes) {
      lanes.store(gain + d, args.scale * lanes.load(args.gain + token * D + d));
      const Vec first = load_or_zero(args.bias, d, lanes);
      lanes.store(y + d, first);
      lanes.store(ask + d, first);
    });
    args.iterations[token] = 0;
    KrylovRow state;
    const KrylovAdvance at{.product = product,
                           .offset = args.offset + token * D,
                           .gain = gain,
                           .weight = args.weight,
                           .bias = args.bias,
                           .y = y,
                           .ask = ask,
                           .space = own,
                           .state = &state,
                           .iterations = args.iterations + token,
                           .rows = 1,
                           .D = D,
                           .eps = args.eps,
                           .tolerance = args.tolerance,
                           .max_iterations = args.max_iterations};
    for (krylov::Row row(at, 0, own + krylov_space(D)); !state.done; row.advance()) {
      small_product(left, 1, m1, ask, left_x, m1, m1, m2);
      small_product(left_x, m2, 1, right, product, m1, m2, m2);
    }
  }
}

}  // namespace fprnn::FPRNN_ISA
