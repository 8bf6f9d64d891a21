#include <fprnn/core/simd.h>
#include <fprnn/ops/kronecker_solve.h>

namespace fprnn::FPRNN_ISA {

void kronecker_forward(const KroneckerForward& args, real* scratch, int64_t begin, int64_t end);

namespace {

FPRNN_INLINE Vec magnitude(Vec x) { return select(x < 0, -x, x); }
FPRNN_INLINE Vec larger(Vec a, Vec b) { return select(a > b, a, b); }
FPRNN_INLINE real largest(Vec x) {
  real most = x[0];
  for (int64_t i = 1; i < kLanes; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

// x <- N(x) over (D).
FPRNN_INLINE void normalise(const KroneckerSolve& args, int64_t D, real* x) {
  if (args.weight == nullptr) return;
  Vec total{}, squares{};
  for_lanes(D, [&](int64_t d, auto lanes) { total += lanes.load(x + d); });
  const real mean = sum(total) / static_cast<real>(D);
  for_lanes(D, [&](int64_t d, auto lanes) {
    const Vec centred = lanes.keep(lanes.load(x + d) - mean);
    squares += centred * centred;
  });
  const real inverse = 1 / square_root(sum(squares) / static_cast<real>(D) + args.eps);
  for_lanes(D, [&](int64_t d, auto lanes) {
    lanes.store(x + d, lanes.load(args.weight + d) * ((lanes.load(x + d) - mean) * inverse) +
                           lanes.load(args.bias + d));
  });
}

// What an iteration moves y by, against what the last one did.
struct Move {
  real difference, size;  // max |f - y|, max |f|
  real along;             // (f - y) . (f - y an iteration ago)
};

// f = N(A + S . ((I - Q) y)); before becomes f - y, and 2 D more reals behind it are working space.
FPRNN_INLINE Move evaluate(const KroneckerSolve& args, int64_t token, const real* y, real* f,
                           real* before) {
  const int64_t D = args.m1 * args.m2;
  kronecker_forward({.left = args.left + token * args.m1 * args.m1,
                     .right = args.right + token * args.m2 * args.m2,
                     .v = y,
                     .y = f,
                     .tokens = 1,
                     .m1 = args.m1,
                     .m2 = args.m2,
                     .scale = args.scale},
                    before + D, 0, 1);
  for_lanes(D, [&](int64_t d, auto lanes) {
    const Vec mixed = lanes.load(y + d) - lanes.load(f + d);
    lanes.store(f + d, lanes.load(args.offset + token * D + d) +
                           lanes.load(args.gain + token * D + d) * mixed);
  });
  normalise(args, D, f);
  Vec difference{}, size{}, along{}, broken{};
  for_lanes(D, [&](int64_t d, auto lanes) {
    const Vec to = lanes.load(f + d), change = to - lanes.load(y + d);
    difference = larger(magnitude(change), difference);
    size = larger(magnitude(to), size);
    along += change * lanes.load(before + d);
    broken += change * 0;  // NaN if any is NaN or infinite
    lanes.store(before + d, change);
  });
  return {largest(difference) + sum(broken), largest(size), sum(along)};
}

}  // namespace

// space: 4 D reals.
void kronecker_solve(const KroneckerSolve& args, real* space, int64_t begin, int64_t end) {
  const int64_t D = args.m1 * args.m2;
  real *f = space, *before = space + D;
  for (int64_t token = begin; token < end; ++token) {
    real* y = args.y + token * D;
    for (int64_t d = 0; d < D; ++d) y[d] = before[d] = 0;
    real step = 1, best = static_cast<real>(__builtin_inff());
    int stalled = 0;
    int64_t count = 1;
    for (;; ++count) {
      const Move move = evaluate(args, token, y, f, before);
      if (!(move.difference == move.difference)) {
        for (int64_t d = 0; d < D; ++d) y[d] = move.difference;
        count = args.max_iterations;
        break;
      }
      if (move.difference <= args.tolerance * (move.size + static_cast<real>(1e-8)) ||
          count == args.max_iterations)
        break;
      // The root rule of ops/fp_mamba_solve.md.
      if (move.difference < static_cast<real>(0.9) * best) {
        best = move.difference;
        stalled = 0;
      } else if (move.along < 0 && ++stalled == 4) {
        step = step > static_cast<real>(1.0 / 32) ? step / 2 : static_cast<real>(1.0 / 64);
        stalled = 0;
      }
      for_lanes(D, [&](int64_t d, auto lanes) {
        lanes.store(y + d, lanes.load(y + d) + step * lanes.load(before + d));
      });
    }
    args.iterations[token] = static_cast<int32_t>(count);
  }
}

}  // namespace fprnn::FPRNN_ISA
