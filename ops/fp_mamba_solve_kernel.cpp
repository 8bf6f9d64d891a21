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
FPRNN_INLINE void solve_tokens(const LocalSolve& args, real* rows, double* numbers, int64_t begin,
                               int64_t end) {
  Numbers<R> n(args.map.r, numbers);
  for (int64_t at = begin; at < end; ++at) {
    const Token token(args.map, at, rows);
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
FPRNN_INLINE void adjoint_tokens(const LocalAdjoint& args, real* rows, double* numbers,
                                 int64_t begin, int64_t end) {
  Numbers<R> n(args.map.r, numbers);
  const int64_t r = n.r, D = args.map.D;
  for (int64_t at = begin; at < end; ++at) {
    const Token token(args.map, at, rows);
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

template <class Body>
FPRNN_INLINE void with_rank(int64_t r, const Body& body) {
  switch (r) {
    case 1:
      return body(std::integral_constant<int64_t, 1>{});
    case 2:
      return body(std::integral_constant<int64_t, 2>{});
    case 3:
      return body(std::integral_constant<int64_t, 3>{});
    case 4:
      return body(std::integral_constant<int64_t, 4>{});
    default:
      return body(std::integral_constant<int64_t, 0>{});
  }
}

}  // namespace

// The working space of Numbers<0>, a multiple of a register.
int64_t local_solve_numbers(int64_t r) {
  return r <= 4 ? 0 : (r + 1) * r * kWide + ((3 * r + 8) * r + kWide - 1) / kWide * kWide;
}

void local_solve_forward(const LocalSolve& args, real* rows, double* numbers, int64_t begin,
                         int64_t end) {
  with_rank(args.map.r, [&](auto rank) {
    solve_tokens<decltype(rank)::value>(args, rows, numbers, begin, end);
  });
}

void local_solve_adjoint(const LocalAdjoint& args, real* rows, double* numbers, int64_t begin,
                         int64_t end) {
  with_rank(args.map.r, [&](auto rank) {
    adjoint_tokens<decltype(rank)::value>(args, rows, numbers, begin, end);
  });
}

}  // namespace fprnn::FPRNN_ISA
