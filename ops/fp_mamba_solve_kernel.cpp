// Derivation, with these names: ops/fp_mamba_solve.md.
#include <fprnn/core/simd.h>
#include <fprnn/ops/fp_mamba_solve.h>

namespace fprnn::FPRNN_ISA {

namespace {

// What is r or r x r of one token, on the stack for small r.
template <int64_t R>
struct Numbers {
  static constexpr int64_t r = R;
  double m[R * R];                   // M
  double square[R * R], cross[R];    // W^T W / D, W^T A / D
  double p1[R * R], p0[R], e[R];     // F = (p0 + p1 beta) / sigma + e
  double beta[R], f[R];              // f = F(beta)
  double from[R], change[R];         // coefficients of y and of its change, or means
  double before[R];                  // f - beta an iteration ago
  double variance = 0, inverse = 0;  // |A|^2 / D + eps, 1 / sigma(beta)
  FPRNN_INLINE Numbers(int64_t, double*) {}
};

template <>
struct Numbers<0> {
  int64_t r;
  double *m, *square, *p1, *cross, *p0, *e, *beta, *f, *from, *change, *before;
  double variance = 0, inverse = 0;
  FPRNN_INLINE Numbers(int64_t r, double* space) : r(r) {
    double** const matrices[] = {&m, &square, &p1};
    double** const vectors[] = {&cross, &p0, &e, &beta, &f, &from, &change, &before};
    for (double** matrix : matrices) *matrix = space, space += r * r;
    for (double** vector : vectors) *vector = space, space += r;
  }
};

// One token's part of the contract, and its working space.
struct Token {
  const real *u, *alpha, *offset, *gain;
  real* w;  // (r, D): W^T
  real* a;  // (D): A
  FPRNN_INLINE Token(const LocalMap& map, int64_t token, real* rows)
      : u(map.u + token * map.r * map.D),
        alpha(map.alpha + token * map.r),
        offset(map.offset + token * map.D),
        gain(map.gain + token * map.D),
        w(rows),
        a(rows + map.r * map.D) {}
};

template <class... Rows>
FPRNN_INLINE real inner(int64_t D, const Rows*... rows) {
  Vec total{};
  for_lanes(D, [&](int64_t d, auto lanes) { total += (lanes.load(rows + d) * ...); });
  return sum(total);
}

// start + sum_j coefficients[j] rows[j], at d.
template <class Lanes>
FPRNN_INLINE Vec combine(Vec start, const real* rows, const double* coefficients, int64_t r,
                         int64_t D, int64_t d, Lanes lanes) {
  for (int64_t j = 0; j < r; ++j)
    start += static_cast<real>(coefficients[j]) * lanes.load(rows + j * D + d);
  return start;
}

// b <- matrix^-1 b, by elimination with partial pivoting; infinite or NaN if that is singular.
FPRNN_INLINE void eliminate(double* matrix, double* b, int64_t r) {
  const auto at = [=](int64_t i, int64_t j) -> double& { return matrix[i * r + j]; };
  const auto swap = [](double& x, double& y) {
    const double kept = x;
    x = y, y = kept;
  };
  for (int64_t k = 0; k < r; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < r; ++i)
      if (__builtin_fabs(at(i, k)) > __builtin_fabs(at(pivot, k))) pivot = i;
    if (pivot != k) {
      for (int64_t j = k; j < r; ++j) swap(at(k, j), at(pivot, j));
      swap(b[k], b[pivot]);
    }
    for (int64_t i = k + 1; i < r; ++i) {
      const double factor = at(i, k) / at(k, k);
      for (int64_t j = k + 1; j < r; ++j) at(i, j) -= factor * at(k, j);
      b[i] -= factor * b[k];
    }
  }
  for (int64_t k = r - 1; k >= 0; --k) {
    for (int64_t j = k + 1; j < r; ++j) b[k] -= at(k, j) * b[j];
    b[k] /= at(k, k);
  }
}

// M: row i of (I + tril(U U^T, -1) diag(a)) T = I gives T_ij = -sum_{j <= k < i} (u_i . u_k) M_kj.
template <class N>
FPRNN_INLINE void make_m(const LocalMap& map, const Token& token, N& n) {
  const int64_t r = n.r, D = map.D;
  for (int64_t i = 0; i < r; ++i) {
    const double a = static_cast<double>(map.scale) * token.alpha[i];
    for (int64_t j = 0; j < r; ++j) n.m[i * r + j] = i == j ? a : 0;
    for (int64_t k = 0; map.in_order && k < i; ++k) {
      const double factor = a * inner(D, token.u + i * D, token.u + k * D);
      for (int64_t j = 0; j <= k; ++j) n.m[i * r + j] -= factor * n.m[k * r + j];
    }
  }
}

// The rows of W and A; centred if N is a LayerNorm, with W's means from those of S . u_i.
template <class N>
FPRNN_INLINE void make_rows(const LocalMap& map, const Token& token, N& n) {
  const int64_t r = n.r, D = map.D;
  const bool centred = map.weight != nullptr;
  const real mean_a = centred ? inner(D, token.offset) / D : 0;
  for (int64_t i = 0; i < r; ++i)
    n.change[i] = centred ? inner(D, token.gain, token.u + i * D) / double(D) : 0;
  for (int64_t j = 0; j < r; ++j) {
    double mean = 0;
    for (int64_t i = 0; i < r; ++i) {
      n.from[i] = n.m[i * r + j];
      mean += n.from[i] * n.change[i];
    }
    const real shift = static_cast<real>(mean);
    for_lanes(D, [&](int64_t d, auto lanes) {
      const Vec mixed = combine(Vec{}, token.u, n.from, r, D, d, lanes);
      lanes.store(token.w + j * D + d, lanes.load(token.gain + d) * mixed - shift);
    });
  }
  for_lanes(D, [&](int64_t d, auto lanes) {
    lanes.store(token.a + d, lanes.load(token.offset + d) - mean_a);
  });
}

template <class N>
FPRNN_INLINE void make_products(const LocalMap& map, const Token& token, N& n) {
  const int64_t r = n.r, D = map.D;
  n.variance = inner(D, token.a, token.a) / double(D) + map.eps;
  for (int64_t i = 0; i < r; ++i) {
    const real *u = token.u + i * D, *w = token.w + i * D;
    n.beta[i] = 0;
    n.cross[i] = inner(D, token.a, w) / double(D);
    n.p0[i] = inner(D, u, map.weight, token.a);
    n.e[i] = inner(D, u, map.bias);
    for (int64_t j = 0; j <= i; ++j)
      n.square[i * r + j] = n.square[j * r + i] = inner(D, w, token.w + j * D) / double(D);
    for (int64_t j = 0; j < r; ++j) n.p1[i * r + j] = inner(D, u, map.weight, token.w + j * D);
  }
}

// 1 / sigma(beta). What rounding takes from the sum of squares, eps gives back.
template <class N>
FPRNN_INLINE double inverse_deviation(const N& n, const double* beta, double eps) {
  double variance = n.variance;
  for (int64_t i = 0; i < n.r; ++i) {
    double slope = 2 * n.cross[i];
    for (int64_t j = 0; j < n.r; ++j) slope += n.square[i * n.r + j] * beta[j];
    variance += beta[i] * slope;
  }
  return 1 / __builtin_sqrt(variance < eps ? eps : variance);
}

struct Residual {
  double difference = 0, size = 0;  // max |F - beta|, max |F|
};

template <class N>
FPRNN_INLINE Residual evaluate(N& n, double eps) {
  n.inverse = inverse_deviation(n, n.beta, eps);
  Residual residual;
  for (int64_t i = 0; i < n.r; ++i) {
    double total = n.p0[i];
    for (int64_t j = 0; j < n.r; ++j) total += n.p1[i * n.r + j] * n.beta[j];
    n.f[i] = total * n.inverse + n.e[i];
    const double difference = __builtin_fabs(n.f[i] - n.beta[i]), size = __builtin_fabs(n.f[i]);
    // NaN is the largest of all.
    if (difference > residual.difference || difference != difference)
      residual.difference = difference;
    if (size > residual.size) residual.size = size;
  }
  return residual;
}

constexpr double kSmall = 1e-8;  // what a residual is relative to is never smaller

// y <- y(beta). The map makes y(F(beta)) of it: whether that is as near as the tolerance asks.
// Their difference is built from differences of coefficients, so it does not drown in rounding.
template <class N>
FPRNN_INLINE bool write(const LocalSolve& args, const Token& token, N& n, real* y) {
  const int64_t r = n.r, D = args.map.D;
  const double next = inverse_deviation(n, n.f, args.map.eps);
  for (int64_t j = 0; j < r; ++j) {
    n.from[j] = n.beta[j] * n.inverse;
    n.change[j] = n.f[j] * next - n.from[j];
  }
  const real from = static_cast<real>(n.inverse), change = static_cast<real>(next - n.inverse);
  Vec worst{}, size{};
  for_lanes(D, [&](int64_t d, auto lanes) {
    const Vec a = lanes.load(token.a + d), weight = lanes.load(args.map.weight + d);
    const Vec value =
        weight * combine(a * from, token.w, n.from, r, D, d, lanes) + lanes.load(args.map.bias + d);
    const Vec difference = weight * combine(a * change, token.w, n.change, r, D, d, lanes);
    lanes.store(y + d, value);
    worst = larger(magnitude(difference), worst);
    size = larger(magnitude(value + difference), size);
  });
  return largest(worst) <= args.tolerance * (largest(size) + kSmall);
}

// change <- (1 / length + 1 - F'(beta))^-1 (F - beta): a linearly implicit step of the flow beta' = F - beta of
// that length, or Newton's for inverse_length 0.
template <class N>
FPRNN_INLINE void implicit_step(N& n, double inverse_length) {
  for (int64_t j = 0; j < n.r; ++j) {
    double slope = n.cross[j];  // of sigma^2 / 2
    for (int64_t k = 0; k < n.r; ++k) slope += n.square[j * n.r + k] * n.beta[k];
    slope *= n.inverse * n.inverse;
    for (int64_t i = 0; i < n.r; ++i)
      n.m[i * n.r + j] = (i == j ? 1 + inverse_length : 0) - n.p1[i * n.r + j] * n.inverse +
                         (n.f[i] - n.e[i]) * slope;
    n.change[j] = n.f[j] - n.beta[j];
  }
  eliminate(n.m, n.change, n.r);
}

// After so many evaluations the two ways to a root below take turns.
constexpr int64_t kTurn = 32;
FPRNN_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The root rule. Plain iteration, whose root is the one that can be learnt; where it turns back for the fourth
// time without having brought the residual below 0.9 of what it was, or after 32 evaluations, implicit
// steps: short ones follow the flow to the root that attracts it, long ones, where that goes well, are
// Newton's. A step against the flow, as Newton's is towards a root that repels, gives way to a plain one.
struct Path {
  double length = 1, best = __builtin_inf(), last = __builtin_inf();
  int stalled = 0;
  bool implicit = false;

  template <class N>
  FPRNN_INLINE void move(N& n, double residual, int64_t count) {
    double along = 0;  // the last step
    for (int64_t i = 0; i < n.r; ++i) {
      const double now = n.f[i] - n.beta[i];
      if (count > 1) along += now * n.before[i];
      n.before[i] = now;
    }
    if (implicit && residual < 0.9 * last)
      length *= 4;
    else if (implicit && along < 0)
      length = length > 1.0 / 4 ? length / 4 : 1.0 / 16;
    if (residual < 0.9 * best) {
      best = residual;
      stalled = 0;
    } else if (along < 0) {
      ++stalled;
    }
    last = residual;
    implicit = implicit || stalled == 4 || count >= kTurn;
    bool with_flow = false;
    if (implicit) {
      implicit_step(n, 1 / length);
      double forwards = 0;
      for (int64_t i = 0; i < n.r; ++i) forwards += n.change[i] * n.before[i];
      with_flow = forwards > 0 && forwards < __builtin_inf();
    }
    for (int64_t i = 0; i < n.r; ++i) n.beta[i] += with_flow ? n.change[i] : n.before[i];
  }
};

// Where the flow goes round a root instead of to it: Newton's steps, no longer than F is, from 0 and then, every
// 16 evaluations, from half of where the last ones have led.
struct Search {
  static constexpr int64_t kStart = 16;

  template <class N>
  FPRNN_INLINE void move(N& n, int64_t count) const {
    const int64_t steps = count - 2 * kTurn;
    if (steps % kStart == 0) {
      for (int64_t i = 0; i < n.r; ++i) n.beta[i] = steps == 0 ? 0 : n.f[i] / 2;
      return;
    }
    implicit_step(n, 0);
    double longest = 0, reach = 0;
    for (int64_t i = 0; i < n.r; ++i) {
      const double step = __builtin_fabs(n.change[i]), size = __builtin_fabs(n.f[i]);
      if (step > longest || step != step) longest = step;
      if (size > reach) reach = size;
    }
    const bool solved = longest < __builtin_inf();
    const double scale = longest > reach ? reach / longest : 1;
    for (int64_t i = 0; i < n.r; ++i)
      n.beta[i] += solved ? scale * n.change[i] : n.f[i] - n.beta[i];
  }
};

// The same for r = 1, where it cannot fail: F(beta) - beta changes sign between 0 and the end, on the
// side where F(0) lies, of what LayerNorm can return: |y - bias| <= sqrt(D) |weight|.
struct Bracket {
  bool open = false;
  double low = 0, high = 0;

  template <class N>
  FPRNN_INLINE void move(const LocalMap& map, const Token& token, N& n) {
    if (!open) {
      open = true;
      const double squares = inner(map.D, token.u, map.weight, token.u, map.weight);
      const double reach = 1.001 * __builtin_sqrt(squares * map.D);
      if (n.p0[0] / __builtin_sqrt(n.variance) + n.e[0] > 0)
        high = n.e[0] + reach;
      else
        low = n.e[0] - reach;
    } else {
      (n.f[0] > n.beta[0] ? low : high) = n.beta[0];
    }
    n.beta[0] = (low + high) / 2;
  }
};

// From beta = 0 to the root, and y. A y that is not near enough asks for a nearer beta.
template <class N>
FPRNN_INLINE int64_t iterate(const LocalSolve& args, const Token& token, N& n, real* y) {
  double tolerance = args.tolerance;
  // Half of the evaluations are the bracket's at least.
  const int64_t bracketed_from = smaller((args.max_iterations + 1) / 2, 2 * kTurn);
  Path path;
  Search search;
  Bracket bracket;
  for (int64_t count = 1;; ++count) {
    const Residual residual = evaluate(n, args.map.eps);
    const bool finite = residual.difference < __builtin_inf();
    if (finite && residual.difference <= tolerance * (residual.size + kSmall)) {
      if (write(args, token, n, y)) return count;
      tolerance /= 10;
    }
    if (!finite)
      for (int64_t i = 0; i < n.r; ++i) n.beta[i] = n.inverse = __builtin_nan("");
    if (!finite || count == args.max_iterations) {
      write(args, token, n, y);
      return args.max_iterations;
    }
    if (n.r == 1 && count >= bracketed_from)
      bracket.move(args.map, token, n);
    else if (n.r == 1 || count < kTurn || count / kTurn % 2 == 1)
      path.move(n, residual.difference, count);
    else
      search.move(n, count);
  }
}

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
  const double variance = inner(D, token.a, token.a) / double(D) + map.eps;
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

// The working space of Numbers<0>.
int64_t local_solve_numbers(int64_t r) { return r <= 4 ? 0 : (3 * r + 8) * r; }

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
