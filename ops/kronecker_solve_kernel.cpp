#include <fprnn/core/simd.h>
#include <fprnn/ops/kronecker_solve.h>

namespace fprnn::FPRNN_ISA {

void kronecker_forward(const KroneckerForward& args, real* scratch, int64_t begin, int64_t end);

namespace {

// The LayerNorm of a vector: x -> weight (x - mean) inverse + bias.
struct Normaliser {
  real mean, inverse;
};
// Of x (D), whose lanes add up to total.
FPRNN_INLINE Normaliser normaliser_of(const real* x, int64_t D, Vec total, real eps) {
  const real mean = sum(total) / static_cast<real>(D);
  Vec squares{};
  for_lanes(D, [&](int64_t d, auto lanes) {
    const Vec centred = lanes.keep(lanes.load(x + d) - mean);
    squares += centred * centred;
  });
  return {mean, 1 / square_root(sum(squares) / static_cast<real>(D) + eps)};
}

// What an iteration moves y by, against what the last one did.
struct Move {
  real difference, size;  // max |f - y|, max |f|
  real along;             // (f - y) . (f - y an iteration ago)
};

// before <- f - y for f = N(A + S . ((I - Q) y)). f and the 2 D reals behind before are working
// space.
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
  Vec total{};
  for_lanes(D, [&](int64_t d, auto lanes) {
    const Vec mixed = lanes.load(y + d) - lanes.load(f + d);
    const Vec x =
        lanes.load(args.offset + token * D + d) + lanes.load(args.gain + token * D + d) * mixed;
    lanes.store(f + d, x);
    total += x;
  });
  const bool normalised = args.weight != nullptr;
  const Normaliser norm = normalised ? normaliser_of(f, D, total, args.eps) : Normaliser{};
  Vec difference{}, size{}, along{}, broken{};
  for_lanes(D, [&](int64_t d, auto lanes) {
    Vec to = lanes.load(f + d);
    if (normalised)
      to = lanes.load(args.weight + d) * ((to - norm.mean) * norm.inverse) +
           lanes.load(args.bias + d);
    const Vec change = to - lanes.load(y + d);
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
