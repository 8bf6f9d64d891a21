// Solution and adjoint of a time step. Derivation, with these names: ops/fp_mamba_solve.md.
#include <fprnn/ops/local_root.h>

namespace fprnn::FPRNN_ISA {

namespace {

using namespace local;

// N is the identity: (I - U W) beta = U A, y = A + W beta.
template <class N>
FPRNN_INLINE void solve_linear(const LocalMap& map, const Token& token, N& n, real* y) {
  const int64_t r = n.r, D = map.D;
  for (int64_t i = 0; i < r; ++i) {
    n.beta[i] = inner(D, token.u + i * D, token.a);
    for (int64_t j = 0; j < r; ++j)
      n.p1[i * r + j] = (i == j) - double(inner(D, token.u + i * D, token.w + j * D));
  }
  eliminate(n.p1, n.beta, r);
  for_lanes(D, [&](int64_t d, auto lanes) {
    lanes.store(y + d, combine(lanes.load(token.a + d), token.w, n.beta, r, D, d, lanes));
  });
}

// W^T <- N' W^T at the solution y. a becomes A + W beta, centred: sigma times the normalised value.
template <class N>
FPRNN_INLINE void through_norm(const LocalMap& map, const Token& token, N& n, const real* y) {
  const int64_t r = n.r, D = map.D;
  for (int64_t i = 0; i < r; ++i) n.beta[i] = inner(D, token.u + i * D, y);
  for_lanes(D, [&](int64_t d, auto lanes) {
    lanes.store(token.a + d, combine(lanes.load(token.a + d), token.w, n.beta, r, D, d, lanes));
  });
  const double variance = variance_of(map, token, n);
  const real inverse = static_cast<real>(1 / __builtin_sqrt(variance));
  for (int64_t i = 0; i < r; ++i) {
    real* w = token.w + i * D;
    const real pull = static_cast<real>(inner(D, w, token.a) / (D * variance));
    for_lanes(D, [&](int64_t d, auto lanes) {
      const Vec along = lanes.load(w + d) - pull * lanes.load(token.a + d);
      lanes.store(w + d, inverse * lanes.load(map.weight + d) * along);
    });
  }
}

template <int64_t R>
FPRNN_INLINE void run_tokens(const LocalSolve& args, real* space, int64_t begin, int64_t end) {
  Numbers<R> n(args.map.r, space);
  for (int64_t at = begin; at < end; ++at) {
    const Token token(args.map, at, space + numbers_space(n.r));
    real* y = args.y + at * args.map.D;
    make_m(args.map, token, n);
    make_rows(args.map, token, n);
    args.iterations[at] = 1;
    if (args.map.weight == nullptr) {
      solve_linear(args.map, token, n, y);
    } else {
      make_products(args.map, token, n);
      args.iterations[at] = static_cast<int32_t>(iterate(args, token, n, y));
    }
  }
}

// (I - E U^T) q = E w, v = w + U^T q, with E in the place of W^T.
template <int64_t R>
FPRNN_INLINE void run_tokens(const LocalAdjoint& args, real* space, int64_t begin, int64_t end) {
  Numbers<R> n(args.map.r, space);
  const int64_t r = n.r, D = args.map.D;
  for (int64_t at = begin; at < end; ++at) {
    const Token token(args.map, at, space + numbers_space(n.r));
    const real* w = args.w + at * D;
    make_m(args.map, token, n);
    make_rows(args.map, token, n);
    if (args.map.weight != nullptr) through_norm(args.map, token, n, args.y + at * D);
    for (int64_t i = 0; i < r; ++i) {
      n.f[i] = inner(D, token.w + i * D, w);
      for (int64_t j = 0; j < r; ++j)
        n.p1[i * r + j] = (i == j) - double(inner(D, token.w + i * D, token.u + j * D));
    }
    eliminate(n.p1, n.f, r);
    for_lanes(D, [&](int64_t d, auto lanes) {
      lanes.store(args.v + at * D + d, combine(lanes.load(w + d), token.u, n.f, r, D, d, lanes));
    });
  }
}

// With r known to the compiler up to 4.
template <int64_t R = 4, class Args>
FPRNN_INLINE void run_rank(const Args& args, real* space, int64_t begin, int64_t end) {
  if (R == 0 || args.map.r == R)
    run_tokens<R>(args, space, begin, end);
  else if constexpr (R > 0)
    run_rank<R - 1>(args, space, begin, end);
}

}  // namespace

// Reals of working space: Numbers, and r + 1 rows behind it.
int64_t local_solve_space(int64_t r, int64_t D) {
  return numbers_space(r) + ((r + 1) * D + kLanes - 1) / kLanes * kLanes;
}

void local_solve_forward(const LocalSolve& args, real* space, int64_t begin, int64_t end) {
  run_rank(args, space, begin, end);
}

void local_solve_adjoint(const LocalAdjoint& args, real* space, int64_t begin, int64_t end) {
  run_rank(args, space, begin, end);
}

}  // namespace fprnn::FPRNN_ISA
