// A row's solution by products alone (ops/krylov_solve.h), for kernel files. The method, with these
// names: ops/kronecker_solve.md.
#pragma once

#include <fprnn/core/simd.h>
#include <fprnn/ops/krylov.h>
#include <fprnn/ops/krylov_solve.h>
#include <fprnn/ops/small_matrix.h>

namespace fprnn::FPRNN_ISA::krylov {

static_assert(kKrylovFirst % 2 == 0 && kKrylovMore % 2 == 0);  // w is where it was after them

// One row, between two products.
class Row {
 public:
  FPRNN_INLINE Row(const KrylovAdvance& args, int64_t row, real* scratch)
      : args_(args),
        state_(args.state[row]),
        D_(args.D),
        most_(krylov_most(D_)),
        normalised_(args.weight != nullptr),
        product_(args.product + row * D_),
        offset_(args.offset + row * D_),
        gain_(args.gain + row * D_),
        y_(args.y + row * D_),
        ask_(args.ask + row * D_),
        n_(args.space + row * krylov_space(D_)),
        w_(n_ + D_),
        h_(w_ + most_),
        basis_(h_ + (most_ + 1) * most_),
        v_(scratch),
        next_(v_ + most_),
        iterations_(args.iterations[row]) {
    sections_.c = next_ + most_;
  }

  // Takes the product; asks for the next unless the row is done.
  FPRNN_INLINE void advance() {
    ++state_.count;
    if (state_.m < 0) return evaluated();
    const int64_t m = ++state_.m;
    const bool ends = !extend(m) || m == state_.most;
    if ((!ends && m < state_.look) || !solved(m, ends)) return ask_for_vector(m);
    write(m);
    ask_for_y();
  }

 private:
  FPRNN_INLINE real within() const {
    return args_.tolerance * (state_.size + static_cast<real>(kResidualFloor));
  }
  FPRNN_INLINE void finish(int64_t count) {
    state_.done = true;
    if (iterations_ < count) iterations_ = static_cast<int32_t>(count);
  }
  FPRNN_INLINE void ask_for_y() {
    state_.m = -1;
    for_lanes(D_, [&](int64_t d, auto lanes) { lanes.store(ask_ + d, lanes.load(y_ + d)); });
  }
  FPRNN_INLINE void ask_for_vector(int64_t i) {
    for_lanes(D_, [&](int64_t d, auto lanes) {
      const Vec v = lanes.load(basis_ + i * D_ + d);
      lanes.store(ask_ + d, state_.linear ? v : lanes.load(args_.weight + d) * v);
    });
  }
  // The largest |value(d)|.
  template <class Value>
  FPRNN_INLINE real largest_of(const Value& value) const {
    Vec most{};
    for_lanes(D_, [&](int64_t d, auto lanes) {
      most = larger(magnitude(lanes.keep(value(d, lanes))), most);
    });
    return largest(most);
  }

  // What y is worth, and the way on: plain steps as long as each halves the rest, then Newton's.
  FPRNN_INLINE void evaluated() {
    const real difference = evaluate();
    if (!(difference == difference)) {
      for (int64_t d = 0; d < D_; ++d) y_[d] = difference;
      return finish(args_.max_iterations);
    }
    if (difference <= within() || state_.count >= args_.max_iterations) return finish(state_.count);
    const bool first = state_.count == 1;
    const bool slow = !(difference < state_.last * static_cast<real>(0.5) ||
                        difference <= kKrylovNear * state_.size);
    state_.linear = state_.linear || (first ? !normalised_ : slow);
    state_.last = first ? static_cast<real>(__builtin_inff()) : difference;
    if ((first || state_.linear) && begin()) return ask_for_vector(0);
    for_lanes(D_, [&](int64_t d, auto lanes) {
      lanes.store(y_ + d, lanes.load(y_ + d) + lanes.load(basis_ + d));
    });
    ask_for_y();
  }

  // x <- (offset +) gain . product, centred if N centres; |x|^2 / D if there is a norm.
  FPRNN_INLINE real take(const real* offset, real* x) {
    Vec total{}, squares{};
    for_lanes(D_, [&](int64_t d, auto lanes) {
      const Vec from = offset == nullptr ? Vec{} : lanes.load(offset + d);
      const Vec value = from + lanes.load(gain_ + d) * lanes.load(product_ + d);
      lanes.store(x + d, value);
      total += value;
      squares += value * value;
    });
    const int rounds = args_.bias != nullptr ? 2 : 0;  // the second for the first's rounding
    for (int round = 0; round < rounds; ++round) {
      const real mean = sum(total) / static_cast<real>(D_);
      total = squares = Vec{};
      for_lanes(D_, [&](int64_t d, auto lanes) {
        const Vec value = lanes.keep(lanes.load(x + d) - mean);
        lanes.store(x + d, value);
        total += value;
        squares += value * value;
      });
    }
    return sum(squares) / static_cast<real>(D_);
  }

  // n, and f - y where the first vector is; the largest of it, NaN if any is NaN or infinite.
  FPRNN_INLINE real evaluate() {
    const real variance = take(offset_, n_);
    state_.inverse = normalised_ ? 1 / square_root(variance + args_.eps) : 1;
    Vec difference{}, size{}, broken{};
    for_lanes(D_, [&](int64_t d, auto lanes) {
      Vec f = lanes.load(n_ + d) * state_.inverse;
      lanes.store(n_ + d, f);
      if (normalised_) f = lanes.load(args_.weight + d) * f + load_or_zero(args_.bias, d, lanes);
      const Vec change = f - lanes.load(y_ + d);
      difference = larger(magnitude(change), difference);
      size = larger(magnitude(f), size);
      broken += change * 0;
      lanes.store(basis_ + d, change);
    });
    state_.size = largest(size);
    return largest(difference) + sum(broken);
  }

  // The first vector: f - y, or b = sigma n at y = delta. false: no space for any.
  FPRNN_INLINE bool begin() {
    const real* const from = state_.linear ? basis_ : n_;
    const real length = square_root(inner(D_, from, from));
    state_.most = static_cast<int32_t>(minimum(most_, args_.max_iterations - state_.count - 1));
    if (!(length > 0) || state_.most < 1) return false;
    for_lanes(D_, [&](int64_t d, auto lanes) {
      lanes.store(basis_ + d, lanes.load(from + d) * (1 / length));
    });
    state_.start = state_.linear ? length : length / state_.inverse;
    state_.m = state_.known = 0;
    state_.look = kKrylovLook;
    return true;
  }

  // Vector m of the basis, from the one before, and column m - 1 of H. Returns whether it is new.
  FPRNN_INLINE bool extend(int64_t m) {
    real* const next = basis_ + m * D_;
    take(nullptr, next);
    if (state_.linear && normalised_) {
      const real along = inner(D_, n_, next) / static_cast<real>(D_);
      for_lanes(D_, [&](int64_t d, auto lanes) {
        const Vec rest = lanes.load(next + d) - along * lanes.load(n_ + d);
        lanes.store(next + d, lanes.load(args_.weight + d) * state_.inverse * rest);
      });
    }
    for (int64_t i = 0; i < m; ++i) h_[i * most_ + m - 1] = 0;
    const real before = square_root(inner(D_, next, next));
    real length = before;
    for (int round = 0; round < 2; ++round) {
      const real whole = length;
      for (int64_t i = 0; i < m; ++i) v_[i] = inner(D_, basis_ + i * D_, next);
      for_lanes(D_, [&](int64_t d, auto lanes) {
        Vec rest = lanes.load(next + d);
        for (int64_t i = 0; i < m; ++i) rest -= v_[i] * lanes.load(basis_ + i * D_ + d);
        lanes.store(next + d, rest);
      });
      for (int64_t i = 0; i < m; ++i) h_[i * most_ + m - 1] += v_[i];
      length = square_root(inner(D_, next, next));
      if (length > static_cast<real>(0.1) * whole) break;
    }
    h_[m * most_ + m - 1] = length;
    const real inverse = length > 0 ? 1 / length : 0;
    for_lanes(
        D_, [&](int64_t d, auto lanes) { lanes.store(next + d, inverse * lanes.load(next + d)); });
    return length > static_cast<real>(kDouble ? 1e-14 : 1e-6) * before;
  }

  // Whether the space holds a solution that is good enough, or the best there will be; the last
  // section is its.
  FPRNN_INLINE bool solved(int64_t m, bool ends) {
    const bool linear = state_.linear;
    const Projection p{h_, m, most_, state_.start, static_cast<real>(D_), args_.eps};
    // What the projected equation leaves of the whole one, times |c_m| in units of |b|, over what
    // it may.
    const real missing =
        p.at(m, m - 1) * p.start / within() * largest_of([&](int64_t d, auto lanes) {
          const Vec next = lanes.load(basis_ + m * D_ + d);
          return linear ? next : next * lanes.load(args_.weight + d);
        });
    PlainSteps plain{w_, next_, state_.known, state_.known > 0};
    sigma_ = linear ? 1 : plain.go_on(p);
    state_.known = static_cast<int32_t>(m);
    real left = linear ? 0 : missing * __builtin_fabs(w_[m - 1]) / (sigma_ * sigma_);
    if (ends || !(left > kKrylovHope)) {
      if (linear) {
        for (real& sigma : sections_.sigma) sigma = sigma_;
        sections_.solve(p);
      } else {
        sigma_ = Secular{sections_}.solve(p, sigma_, args_.tolerance);
      }
      const real last = sections_.c[(m - 1) * kKrylovSections + kKept] / sections_.t[kKept];
      left = missing * __builtin_fabs(last) / sigma_;
      ends = ends || left <= 1;
    }
    int64_t look = m + 1;
    for (; left > 2 && look < m + kKrylovLook; left /= 2) ++look;
    state_.look = static_cast<int32_t>(look);
    return ends;
  }

  // y + V c, with a norm no further than f is long, or delta + gamma . V c with the n that has the
  // length for sigma.
  FPRNN_INLINE void write(int64_t m) {
    const real t = sections_.t[kKept], length = square_root(sections_.squares[kKept]);
    const real D = static_cast<real>(D_), sign = t < 0 ? -1 : 1;
    const real part = 1 - args_.eps / (sigma_ * sigma_);
    real factor = sign * square_root(D * (part > 0 ? part : 0)) / length;
    if (state_.linear) {
      const real most = state_.size * square_root(D) / length;
      factor = state_.start / t;
      if (normalised_ && !(__builtin_fabs(factor) < most)) factor = sign * most;
    }
    for_lanes(D_, [&](int64_t d, auto lanes) {
      Vec total{};
      for (int64_t i = 0; i < m; ++i)
        total += sections_.c[i * kKrylovSections + kKept] * lanes.load(basis_ + i * D_ + d);
      total *= factor;
      if (!state_.linear) total *= lanes.load(args_.weight + d);
      lanes.store(y_ + d, total + load_or_zero(state_.linear ? y_ : args_.bias, d, lanes));
    });
  }

  const KrylovAdvance& args_;
  KrylovRow& state_;
  const int64_t D_, most_;
  const bool normalised_;
  const real *product_, *offset_, *gain_;
  real *y_, *ask_, *n_, *w_, *h_, *basis_, *v_, *next_;
  int32_t& iterations_;
  real sigma_ = 0;
  Sections sections_;
};

}  // namespace fprnn::FPRNN_ISA::krylov
