// The root of the equation in r numbers (ops/local_equation.h), for kernel files: plain iteration,
// sections of sigma where that leads nowhere, Newton's steps at the end, and whether y is as near
// as was asked.
#pragma once

#include <fprnn/ops/local_equation.h>

namespace fprnn::FPRNN_ISA::local {

// sigma^2(beta), for a double or a vector of them. What rounding takes from it, eps gives back.
template <class N, class T>
FPRNN_INLINE T variance_at(const N& n, const T* beta, double eps) {
  T variance = T{} + n.variance;
  for (int64_t i = 0; i < n.r; ++i) {
    T slope = T{} + 2 * n.cross[i];
    for (int64_t j = 0; j < n.r; ++j) slope += n.square[i * n.r + j] * beta[j];
    variance += beta[i] * slope;
  }
  return variance < eps ? T{} + eps : variance;
}
template <class N>
FPRNN_INLINE double inverse_deviation(const N& n, const double* beta, double eps) {
  return 1 / __builtin_sqrt(variance_at(n, beta, eps));
}

struct Residual {
  double difference = 0, size = 0;  // max |F - beta|, max |F|
};

// f <- F(beta), and its 1 / sigma, which nothing else here waits for.
template <class N>
FPRNN_INLINE Residual evaluate(N& n, double eps) {
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
  n.next = inverse_deviation(n, n.f, eps);
  return residual;
}

// y <- y(beta). The map makes y(F(beta)) of it: whether that is as near as the tolerance asks.
// Their difference is built from differences of coefficients, so it does not drown in rounding.
template <class N>
FPRNN_INLINE bool write(const LocalSolve& args, const Token& token, N& n, real* y) {
  const int64_t r = n.r, D = args.map.D;
  for (int64_t j = 0; j < r; ++j) {
    n.from[j] = n.beta[j] * n.inverse;
    n.change[j] = n.f[j] * n.next - n.from[j];
  }
  const real from = static_cast<real>(n.inverse), change = static_cast<real>(n.next - n.inverse);
  Vec worst{}, size{};
  for_lanes(D, [&](int64_t d, auto lanes) {
    const Vec a = lanes.load(token.a + d), weight = lanes.load(args.map.weight + d);
    const Vec value = weight * combine(a * from, token.w, n.from, r, D, d, lanes) +
                      load_or_zero(args.map.bias, d, lanes);
    const Vec difference = weight * combine(a * change, token.w, n.change, r, D, d, lanes);
    lanes.store(y + d, value);
    worst = larger(magnitude(difference), worst);
    size = larger(magnitude(value + difference), size);
  });
  return largest(worst) <= args.tolerance * (largest(size) + kResidualFloor);
}

// Whether y(beta) is a small difference of large numbers: then it has lost the digits of the inner
// products, and may not be what the map makes of it.
template <class N>
FPRNN_INLINE bool cancels(const N& n) {
  constexpr double kMost = kDouble ? 1e6 : 16;
  double terms = n.variance;
  for (int64_t i = 0; i < n.r; ++i) {
    const double start = n.p0[i] * n.inverse, beta = n.beta[i];
    terms += n.square[i * n.r + i] * (start * start + beta * beta);
  }
  return terms * n.inverse * n.inverse > kMost;
}

// Whether the equation holds at y: term by term, in double.
template <class N>
FPRNN_INLINE bool holds(const LocalSolve& args, const Token& token, N& n, const real* y) {
  const LocalMap& map = args.map;
  const int64_t r = n.r, D = map.D;
  make_m(map, token, n);
  for (int64_t i = 0; i < r; ++i) n.from[i] = n.change[i] = 0;
  for (int64_t i = 0; i < r; ++i)
    for (int64_t d = 0; d < D; ++d) n.change[i] += static_cast<double>(token.u[i * D + d]) * y[d];
  for (int64_t i = 0; i < r; ++i)
    for (int64_t j = 0; j < r; ++j) n.from[i] += n.m[i * r + j] * n.change[j];
  const auto entering = [&](int64_t d) {  // N: A + S . ((I - Q) y)
    double fed_back = 0;
    for (int64_t i = 0; i < r; ++i) fed_back += n.from[i] * token.u[i * D + d];
    return token.offset[d] + token.gain[d] * fed_back;
  };
  double mean = 0, variance = 0, worst = 0, size = 0;
  for (int64_t d = 0; map.bias != nullptr && d < D; ++d) mean += entering(d) / D;
  for (int64_t d = 0; d < D; ++d) variance += (entering(d) - mean) * (entering(d) - mean) / D;
  const double inverse = 1 / __builtin_sqrt(variance + map.eps);
  for (int64_t d = 0; d < D; ++d) {
    const double f = map.weight[d] * inverse * (entering(d) - mean) +
                     (map.bias != nullptr ? map.bias[d] : real(0));
    const double difference = __builtin_fabs(f - y[d]);
    if (!(difference <= worst)) worst = difference;
    if (__builtin_fabs(f) > size) size = __builtin_fabs(f);
  }
  return worst <= (double(args.tolerance) + kResidualRounding) * (size + kResidualFloor);
}

// Plain iteration, whose root is the one that can be learnt. It is over where it turns back for the
// fourth time without having brought the residual below 0.9 of what it was, and after 32
// evaluations.
struct Plain {
  double best = __builtin_inf();
  int stalled = 0;

  template <class N>
  FPRNN_INLINE bool move(N& n, double residual, int64_t count) {
    double along = 0;  // the last step
    for (int64_t i = 0; i < n.r; ++i) {
      const double now = n.f[i] - n.beta[i];
      if (count > 1) along += now * n.before[i];
      n.before[i] = now;
      n.beta[i] = n.f[i];
    }
    n.inverse = n.next;
    if (residual < 0.9 * best) {
      best = residual;
      stalled = 0;
    } else if (along < 0) {
      ++stalled;
    }
    return stalled < 4 && count < 32;
  }
};

// The equation in sigma alone, of which beta = e + (sigma - P1)^-1 (p0 + P1 e) is a function: the
// largest root.
struct Secular {
  static constexpr int64_t kSections = 32, kRounds = 3, kMost = 12;
  static_assert(kSections % kWide == 0);
  double low = 0, high = 0;  // around the root, once that is known
  bool pole = false;         // whether the determinant changes its sign there

  // beta <- that of `high`, nearer to the root each time; returns how many rounds that took.
  template <class N>
  FPRNN_INLINE int64_t narrow(N& n, double eps, int64_t most) {
    const bool first = high == 0;
    begin(n, eps);
    int64_t round = 0;
    do {
      double sigma[kSections];
      for (int64_t k = 0; k < kSections; ++k) {
        const double part = static_cast<double>(k + 1) / kSections;
        const double bend =
            first && round == 0 ? part * part * part : 1;  // closer where sigma is small
        sigma[k] = low + (high - low) * part * bend;
      }
      int64_t above = 0;
      for (int64_t group = kSections - kWide; group >= 0 && above == 0; group -= kWide) {
        Wide at;
        for (int64_t lane = 0; lane < kWide; ++lane) at[lane] = sigma[group + lane];
        WideMask negative;
        const WideMask is_below = below(n, at, eps, negative);
        for (int64_t lane = 0; lane < kWide && group + lane < kSections - 1; ++lane)
          if (is_below[lane]) above = group + lane + 1, pole = negative[lane];
      }
      if (above > 0) low = sigma[above - 1];
      high = sigma[above];
      ++round;
    } while (round < most && (round < kRounds || (pole && round < kMost)));
    system(n, high, n.m, n.change);
    eliminate(n.m, n.change, n.r);
    for (int64_t i = 0; i < n.r; ++i) n.beta[i] = n.e[i] + n.change[i];
    return round;
  }

 private:
  // from <- p0 + P1 e. The first time low and high as well.
  template <class N>
  FPRNN_INLINE void begin(N& n, double eps) {
    double p1 = 0, w = 0, start = 0;  // squares of norms
    for (int64_t i = 0; i < n.r; ++i) {
      n.from[i] = n.p0[i];
      for (int64_t j = 0; j < n.r; ++j) {
        n.from[i] += n.p1[i * n.r + j] * n.e[j];
        p1 += n.p1[i * n.r + j] * n.p1[i * n.r + j];
      }
      w += n.square[i * n.r + i];
      start += n.from[i] * n.from[i];
    }
    if (high > 0) return;
    high = __builtin_sqrt(p1) + __builtin_sqrt(variance_at(n, n.e, eps)) +
           __builtin_sqrt(__builtin_sqrt(w * start));
    low = __builtin_sqrt(eps);
  }

  template <class N, class T>
  FPRNN_INLINE void system(const N& n, T sigma, T* matrix, T* right) const {
    for (int64_t i = 0; i < n.r; ++i) {
      for (int64_t j = 0; j < n.r; ++j)
        matrix[i * n.r + j] = (i == j ? sigma : T{}) - n.p1[i * n.r + j];
      right[i] = T{} + n.from[i];
    }
  }

  // Whether sigma is smaller than the root: sigma(beta) is not below it, or has been infinite
  // since.
  template <class N>
  FPRNN_INLINE WideMask below(N& n, Wide sigma, double eps, WideMask& negative) const {
    system(n, sigma, &n.system[0], &n.right[0]);
    negative = eliminate(&n.system[0], &n.right[0], n.r);
    for (int64_t i = 0; i < n.r; ++i) n.right[i] += n.e[i];
    return negative | ~(variance_at(n, &n.right[0], eps) < sigma * sigma);
  }
};

// beta <- beta + (1 - F'(beta))^-1 (F - beta): Newton's step.
template <class N>
FPRNN_INLINE void newton(N& n) {
  for (int64_t j = 0; j < n.r; ++j) {
    double slope = n.cross[j];  // of sigma^2 / 2
    for (int64_t k = 0; k < n.r; ++k) slope += n.square[j * n.r + k] * n.beta[k];
    slope *= n.inverse * n.inverse;
    for (int64_t i = 0; i < n.r; ++i)
      n.m[i * n.r + j] = (i == j) - n.p1[i * n.r + j] * n.inverse + (n.f[i] - n.e[i]) * slope;
    n.change[j] = n.f[j] - n.beta[j];
  }
  eliminate(n.m, n.change, n.r);
  for (int64_t i = 0; i < n.r; ++i) n.beta[i] += n.change[i];
}

// From beta = 0 to the root, and y. A y that is not near enough asks for a nearer beta, but not for
// ever where its digits do not suffice.
inline constexpr int kMostRefused = 3;
template <class N>
FPRNN_INLINE int64_t iterate(const LocalSolve& args, const Token& token, N& n, real* y) {
  double tolerance = args.tolerance;
  double last = 0;
  int refused = 0;
  bool going = true;
  Plain plain;
  Secular secular;
  n.inverse = inverse_deviation(n, n.beta, args.map.eps);
  for (int64_t count = 1;; ++count) {
    const Residual residual = evaluate(n, args.map.eps);
    const bool finite = residual.difference < __builtin_inf();
    if (finite && residual.difference <= tolerance * (residual.size + kResidualFloor)) {
      if (write(args, token, n, y)) {
        if (!cancels(n) || holds(args, token, n, y)) return count;
        if (++refused == kMostRefused) return args.max_iterations;
      }
      tolerance /= 10;
    }
    const bool broken = !finite && going;
    if (broken)
      for (int64_t i = 0; i < n.r; ++i) n.beta[i] = n.inverse = __builtin_nan("");
    if (broken || count >= args.max_iterations) {
      write(args, token, n, y);
      return args.max_iterations;
    }
    going = going && plain.move(n, residual.difference, count);
    if (going) continue;
    if (residual.difference < 0.5 * last) {
      newton(n);
      last = residual.difference;
    } else {
      count += secular.narrow(n, args.map.eps, args.max_iterations - count - 1);
      last = __builtin_inf();
    }
    n.inverse = inverse_deviation(n, n.beta, args.map.eps);
  }
}

}  // namespace fprnn::FPRNN_ISA::local
