// The method, with these names: ops/kronecker_solve.md.
#include <fprnn/core/simd.h>
#include <fprnn/ops/kronecker_solve.h>
#include <fprnn/ops/krylov.h>
#include <fprnn/ops/norm_statistics.h>
#include <fprnn/ops/small_matrix.h>

namespace fprnn::FPRNN_ISA {

namespace {

using namespace krylov;

// One token's equation, and its working space.
class Token {
 public:
  FPRNN_INLINE Token(const KroneckerSolve& args, int64_t token, real* space)
      : args_(args),
        D_(args.m1 * args.m2),
        most_(minimum(D_, D_ <= kKrylovLong ? kKrylovMost : kKrylovMostLong)),
        left_(args.left + token * args.m1 * args.m1),
        right_(args.right + token * args.m2 * args.m2),
        offset_(args.offset + token * D_),
        gain_(args.gain + token * D_),
        y_(args.y + token * D_) {
    real** const vectors[] = {&n_, &change_, &v_, &left_x_};
    for (real** vector : vectors) *vector = space, space += D_;
    plain_[0] = space;
    plain_[1] = plain_[0] + most_;
    basis_ = plain_[1] + most_;
    h_ = basis_ + (most_ + 1) * D_;
    sections_.c = h_ + (most_ + 1) * most_;
  }

  // y; how many products that took.
  FPRNN_INLINE int64_t solve() {
    const bool normalised = args_.weight != nullptr;
    for (int64_t d = 0; d < D_; ++d) y_[d] = args_.bias != nullptr ? args_.bias[d] : 0;
    int64_t count = 1;
    if (normalised) leap(false, count);
    real last = static_cast<real>(__builtin_inff());
    for (bool linear = !normalised;; ++count) {
      evaluate();
      if (!(difference_ == difference_)) {
        for (int64_t d = 0; d < D_; ++d) y_[d] = difference_;
        return args_.max_iterations;
      }
      if (difference_ <= within() || count >= args_.max_iterations) break;
      linear = linear ||
               !(difference_ < last * static_cast<real>(0.5) || difference_ <= kKrylovNear * size_);
      last = difference_;
      if (!linear || !leap(true, count))
        for_lanes(D_, [&](int64_t d, auto lanes) {
          lanes.store(y_ + d, lanes.load(y_ + d) + lanes.load(change_ + d));
        });
    }
    return minimum(count, args_.max_iterations);
  }

 private:
  FPRNN_INLINE real within() const {
    return args_.tolerance * (size_ + static_cast<real>(kResidualFloor));
  }

  // to <- left^T X right for the rows X of x.
  FPRNN_INLINE void multiply(const real* x, real* to) {
    const int64_t m1 = args_.m1, m2 = args_.m2;
    small_product(left_, 1, m1, x, left_x_, m1, m1, m2);
    small_product(left_x_, m2, 1, right_, to, m1, m2, m2);
  }

  // x <- offset + gain . (scale x), centred if N centres; returns |x|^2 / D if there is a norm.
  FPRNN_INLINE real center(const real* offset, real* x) {
    Vec total{}, squares{};
    for_lanes(D_, [&](int64_t d, auto lanes) {
      const Vec from = offset == nullptr ? Vec{} : lanes.load(offset + d);
      const Vec value = from + lanes.load(gain_ + d) * (args_.scale * lanes.load(x + d));
      lanes.store(x + d, value);
      total += value;
      squares += value * value;
    });
    if (args_.bias == nullptr)
      return args_.weight != nullptr ? sum(squares) / static_cast<real>(D_) : 0;
    const real mean = sum(total) / static_cast<real>(D_);
    const real variance = subtract(mean, x);
    return is_far(mean, variance + args_.eps) ? subtract_rest(x) : variance;
  }
  // x <- x - mean; returns |x|^2 / D.
  FPRNN_INLINE real subtract(real mean, real* x) {
    Vec squares{};
    for_lanes(D_, [&](int64_t d, auto lanes) {
      const Vec value = lanes.keep(lanes.load(x + d) - mean);
      lanes.store(x + d, value);
      squares += value * value;
    });
    return sum(squares) / static_cast<real>(D_);
  }
  // The same of what deviations still have for a mean.
  FPRNN_RARE real subtract_rest(real* x) {
    Vec total{};
    for_lanes(D_, [&](int64_t d, auto lanes) { total += lanes.load(x + d); });
    return subtract(sum(total) / static_cast<real>(D_), x);
  }

  // n, change = f - y, how large they are, and 1 / sigma.
  FPRNN_INLINE void evaluate() {
    multiply(y_, n_);
    const real variance = center(offset_, n_);
    const bool normalised = args_.weight != nullptr;
    inverse_ = normalised ? 1 / square_root(variance + args_.eps) : 1;
    Vec difference{}, size{}, broken{};
    for_lanes(D_, [&](int64_t d, auto lanes) {
      Vec to = lanes.load(n_ + d);
      if (normalised) {
        to = to * inverse_;
        lanes.store(n_ + d, to);
        to = lanes.load(args_.weight + d) * to + load_or_zero(args_.bias, d, lanes);
      }
      const Vec change = to - lanes.load(y_ + d);
      difference = larger(magnitude(change), difference);
      size = larger(magnitude(to), size);
      broken += change * 0;  // NaN if any is NaN or infinite
      lanes.store(change_ + d, change);
    });
    difference_ = largest(difference) + sum(broken);
    size_ = largest(size);
  }

  // v <- J v: linear, of f at y; otherwise M v.
  FPRNN_INLINE void apply(bool linear, const real* from, real* to) {
    const bool normalised = args_.weight != nullptr;
    if (linear) {
      multiply(from, to);
    } else {
      for_lanes(D_, [&](int64_t d, auto lanes) {
        lanes.store(v_ + d, lanes.load(args_.weight + d) * lanes.load(from + d));
      });
      multiply(v_, to);
    }
    center(nullptr, to);
    if (!linear || !normalised) return;
    const real along = inner(D_, n_, to) / static_cast<real>(D_);
    for_lanes(D_, [&](int64_t d, auto lanes) {
      lanes.store(to + d, lanes.load(args_.weight + d) * inverse_ *
                              (lanes.load(to + d) - along * lanes.load(n_ + d)));
    });
  }

  // The first vector: f - y, or b = C (A + S . (I - Q) delta). Returns its length.
  FPRNN_INLINE real begin(bool linear) {
    if (linear) {
      for (int64_t d = 0; d < D_; ++d) basis_[d] = change_[d];
    } else {
      if (args_.bias != nullptr) multiply(args_.bias, basis_);
      for (int64_t d = 0; args_.bias == nullptr && d < D_; ++d) basis_[d] = 0;
      center(offset_, basis_);
    }
    const real length = square_root(inner(D_, basis_, basis_));
    shrink(basis_, length);
    // f at n = 0 tells how large f is, before any is known.
    if (!linear)
      size_ = largest_of([&](int64_t d, auto lanes) {
        return load_or_zero(args_.bias, d, lanes) + square_root(static_cast<real>(D_)) *
                                                        lanes.load(args_.weight + d) *
                                                        lanes.load(basis_ + d);
      });
    return length;
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
  FPRNN_INLINE void shrink(real* x, real length) {
    const real inverse = length > 0 ? 1 / length : 0;
    for_lanes(D_, [&](int64_t d, auto lanes) { lanes.store(x + d, inverse * lanes.load(x + d)); });
  }

  // Vector m of the basis, from the one before, and column m - 1 of H. Returns whether it is new.
  FPRNN_INLINE bool extend(bool linear, int64_t m) {
    real* const next = basis_ + m * D_;
    apply(linear, next - D_, next);
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
    shrink(next, length);
    return length > static_cast<real>(kDouble ? 1e-14 : 1e-6) * before;
  }

  // y <- where the equation in Krylov's space is solved; false: there is no such space.
  FPRNN_INLINE bool leap(bool linear, int64_t& count) {
    const real start = begin(linear);
    const int64_t most = minimum(most_, args_.max_iterations - count - 2);
    if (!(start > 0) || most < 1) return false;
    if (!linear) ++count;
    PlainSteps plain{plain_[0], plain_[1]};
    int64_t m = 0, look = kKrylovLook;
    for (bool ends = false; !ends;) {
      ends = !extend(linear, ++m) || m == most;
      ++count;
      if (!ends && m < look) continue;
      const Projection p{h_, m, most_, start, static_cast<real>(D_), args_.eps};
      // What the projected equation leaves of the whole one, times |c_m| in units of |b|, over what
      // it may.
      const real missing =
          p.at(m, m - 1) * start / within() * largest_of([&](int64_t d, auto lanes) {
            const Vec next = lanes.load(basis_ + m * D_ + d);
            return linear ? next : next * lanes.load(args_.weight + d);
          });
      sigma_ = linear ? 1 : plain.go_on(p);
      real left = linear ? 0 : missing * __builtin_fabs(plain.w[m - 1]) / (sigma_ * sigma_);
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
      for (look = m + 1; left > 2 && look < m + kKrylovLook; left /= 2) ++look;
    }
    write(linear, m, start);
    return true;
  }

  // y + V c, no further than f is long, or delta + gamma . V c with the n that has the length for
  // sigma.
  FPRNN_INLINE void write(bool linear, int64_t m, real start) {
    const real t = sections_.t[kKept], length = square_root(sections_.squares[kKept]);
    const real D = static_cast<real>(D_);
    real factor = start / t;
    if (linear) {
      const real most = size_ * square_root(D) / length;
      if (!(__builtin_fabs(factor) < most) && args_.weight != nullptr)
        factor = t < 0 ? -most : most;
    } else {
      const real part = 1 - args_.eps / (sigma_ * sigma_);
      factor = square_root(D * (part > 0 ? part : 0)) / length * (t < 0 ? -1 : 1);
    }
    for_lanes(D_, [&](int64_t d, auto lanes) {
      Vec total{};
      for (int64_t i = 0; i < m; ++i)
        total += sections_.c[i * kKrylovSections + kKept] * lanes.load(basis_ + i * D_ + d);
      total *= factor;
      lanes.store(y_ + d, linear ? lanes.load(y_ + d) + total
                                 : lanes.load(args_.weight + d) * total +
                                       load_or_zero(args_.bias, d, lanes));
    });
  }

  const KroneckerSolve& args_;
  const int64_t D_, most_;
  const real *left_, *right_, *offset_, *gain_;
  real *y_, *n_, *change_, *v_, *left_x_, *plain_[2], *basis_, *h_;
  real inverse_ = 1, difference_ = 0, size_ = 0, sigma_ = 0;
  Sections sections_;
};

}  // namespace

void kronecker_solve(const KroneckerSolve& args, real* space, int64_t begin, int64_t end) {
  for (int64_t token = begin; token < end; ++token)
    args.iterations[token] = static_cast<int32_t>(Token(args, token, space).solve());
}

}  // namespace fprnn::FPRNN_ISA
