// The method, with these names: ops/kronecker_solve.md.
#include <fprnn/core/simd.h>
#include <fprnn/ops/kronecker_solve.h>
#include <fprnn/ops/small_matrix.h>

namespace fprnn::FPRNN_ISA {

namespace {

// A Hessenberg matrix H (m, m), from an orthonormal basis of Krylov's space, and one e_1 on the right.
struct Projection {
  const real* h;  // rows are `stride` apart; H's last subdiagonal element is h[m, m - 1]
  int64_t m, stride;
  real start;   // the length of the vector that the basis begins with
  real D, eps;  // |c|^2 = |n|^2 = D (1 - eps / sigma^2)
  FPRNN_INLINE real at(int64_t i, int64_t j) const { return h[i * stride + j]; }
};

constexpr int64_t kGroups = kKrylovSections / kLanes;
static_assert(kKrylovSections % kLanes == 0);

// c in (sigma I - H) c = t e_1 for as many sigma as there are sections, from c_m = 1 upwards
// (Hyman). What becomes large makes all before it smaller.
struct Sections {
  real* c;  // (m, kKrylovSections)
  real sigma[kKrylovSections], t[kKrylovSections], squares[kKrylovSections];  // |c|^2

  FPRNN_INLINE void solve(const Projection& p) {
    for (int64_t group = 0; group < kGroups; ++group) solve(p, group * kLanes);
  }
  FPRNN_INLINE bool negative(int64_t k) const { return t[k] < 0; }
  // |n| / |c| - 1, whose root is wanted: where c has been infinite since a sigma with the sign
  // `negative` it is below -1, and goes through -1 where c is infinite.
  FPRNN_INLINE real value(const Projection& p, int64_t k, bool negative) const {
    const real part = 1 - p.eps / (sigma[k] * sigma[k]);
    const real ratio =
        square_root((part > 0 ? part : 0) * p.D / squares[k]) * __builtin_fabs(t[k]) / p.start;
    return ((t[k] < 0) == negative ? ratio : -ratio) - 1;
  }
  // Whether there is a root between section k - 1 and k: |c| becomes smaller than |n|.
  FPRNN_INLINE bool crosses(const Projection& p, int64_t k) const {
    return value(p, k, negative(k)) > 0 && !(value(p, k - 1, negative(k)) > 0);
  }

 private:
  FPRNN_INLINE void solve(const Projection& p, int64_t lane) {
    constexpr real kLarge = static_cast<real>(1e12);
    const Vec at = load(sigma + lane);
    real* const x = c + lane;
    store(x + (p.m - 1) * kKrylovSections, splat(1));
    for (int64_t i = p.m - 1; i >= 0; --i) {
      Vec total = at * load(x + i * kKrylovSections), more{};
      int64_t j = i;
      for (; j + 2 <= p.m; j += 2) {
        total -= p.at(i, j) * load(x + j * kKrylovSections);
        more -= p.at(i, j + 1) * load(x + (j + 1) * kKrylovSections);
      }
      if (j < p.m) total -= p.at(i, j) * load(x + j * kKrylovSections);
      total += more;
      if (i == 0) {
        store(t + lane, total);
        break;
      }
      total *= 1 / p.at(i, i - 1);
      store(x + (i - 1) * kKrylovSections, total);
      if (!(largest(magnitude(total)) > kLarge)) continue;
      const Vec smaller = select(magnitude(total) > kLarge, splat(1 / kLarge), splat(1));
      for (int64_t k = i - 1; k < p.m; ++k)
        store(x + k * kKrylovSections, smaller * load(x + k * kKrylovSections));
    }
    Vec sum{};
    for (int64_t i = 0; i < p.m; ++i) {
      const Vec value = load(x + i * kKrylovSections);
      sum += value * value;
    }
    store(squares + lane, sum);
  }
};

// n <- (b + M n) / sigma(n) in the space's coordinates, from n = 0 on: what plain steps are, as far
// as the space holds them. They go on when it has grown.
struct PlainSteps {
  real *w, *next;  // b + M n in units of |b|: `known` coordinates, the others are 0
  int64_t known = 0;
  bool began = false;

  // sigma after these steps.
  FPRNN_INLINE real go_on(const Projection& p) {
    for (int64_t i = known; i < p.m; ++i) w[i] = i == 0;
    known = p.m;
    for (int count = began ? kKrylovMore : kKrylovFirst; count > 0; --count) {
      const real inverse = 1 / sigma(p);
      for (int64_t i = 0; i < p.m; ++i) {
        const int64_t first = i == 0 ? 0 : i - 1;
        next[i] =
            (i == 0) + inverse * small_dot(p.h + i * p.stride + first, w + first, p.m - first);
      }
      real* const swap = w;
      w = next;
      next = swap;
    }
    began = true;
    return sigma(p);
  }

 private:
  FPRNN_INLINE real sigma(const Projection& p) const {
    return square_root(p.start * p.start * small_dot(w, w, p.m) / p.D + p.eps);
  }
};

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
    for (int64_t d = 0; d < D_; ++d) y_[d] = normalised ? args_.bias[d] : 0;
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

  // x <- offset + gain . (scale x), centred if there is a LayerNorm; returns |x|^2 / D.
  FPRNN_INLINE real center(const real* offset, real* x) {
    Vec total{};
    for_lanes(D_, [&](int64_t d, auto lanes) {
      const Vec from = offset == nullptr ? Vec{} : lanes.load(offset + d);
      const Vec value = from + lanes.load(gain_ + d) * (args_.scale * lanes.load(x + d));
      lanes.store(x + d, value);
      total += value;
    });
    if (args_.weight == nullptr) return 0;
    const real mean = sum(total) / static_cast<real>(D_);
    Vec squares{};
    for_lanes(D_, [&](int64_t d, auto lanes) {
      const Vec value = lanes.keep(lanes.load(x + d) - mean);
      lanes.store(x + d, value);
      squares += value * value;
    });
    return sum(squares) / static_cast<real>(D_);
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
        to = lanes.load(args_.weight + d) * to + lanes.load(args_.bias + d);
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
    const real along = small_dot(n_, to, D_) / static_cast<real>(D_);
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
      multiply(args_.bias, basis_);
      center(offset_, basis_);
    }
    const real length = square_root(small_dot(basis_, basis_, D_));
    shrink(basis_, length);
    // f at n = 0 tells how large f is, before any is known.
    if (!linear)
      size_ = largest_of([&](int64_t d, auto lanes) {
        return lanes.load(args_.bias + d) + square_root(static_cast<real>(D_)) *
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
    const real before = square_root(small_dot(next, next, D_));
    real length = before;
    for (int round = 0; round < 2; ++round) {
      const real whole = length;
      for (int64_t i = 0; i < m; ++i) v_[i] = small_dot(basis_ + i * D_, next, D_);
      for_lanes(D_, [&](int64_t d, auto lanes) {
        Vec rest = lanes.load(next + d);
        for (int64_t i = 0; i < m; ++i) rest -= v_[i] * lanes.load(basis_ + i * D_ + d);
        lanes.store(next + d, rest);
      });
      for (int64_t i = 0; i < m; ++i) h_[i * most_ + m - 1] += v_[i];
      length = square_root(small_dot(next, next, D_));
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
      // What the projected equation leaves of the whole one, times |c_m| in units of |b|, over what it may.
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
          secular(p);
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

  // sigma_ <- the root next to sigma_, to which plain steps have come, or the largest of all if
  // none is near; the last section becomes its.
  FPRNN_INLINE void secular(const Projection& p) {
    real low = square_root(p.eps), low_value = -1;
    int64_t k = around(p, sigma_);
    if (k == 0) k = everywhere(p, low);
    const bool negative = sections_.negative(k);
    real high = sections_.sigma[k], high_value = sections_.value(p, k, negative);
    if (k > 0) low = sections_.sigma[k - 1], low_value = sections_.value(p, k - 1, negative);
    const real tenth = args_.tolerance * static_cast<real>(0.1);
    const real match = tenth > kKrylovMatch ? tenth : kKrylovMatch;
    for (int round = 0;; ++round) {
      for (k = 0; k < kKept; ++k)
        sections_.sigma[k] =
            low + (high - low) * static_cast<real>(k + 1) / static_cast<real>(kKrylovSections);
      const real part = low_value / (low_value - high_value);
      sections_.sigma[kKept] = low + (high - low) * (part > 0 && part < 1 ? part : real(0.5));
      sections_.solve(p);
      const real value = sections_.value(p, kKept, negative);
      if (__builtin_fabs(value) <= match || round == kKrylovRounds) break;
      while (k > 0 && sections_.value(p, k - 1, negative) > 0) --k;
      if (k < kKept) high = sections_.sigma[k], high_value = sections_.value(p, k, negative);
      if (k > 0) low = sections_.sigma[k - 1], low_value = sections_.value(p, k - 1, negative);
    }
    sigma_ = sections_.sigma[kKept];
  }
  // Sections on both sides of sigma, each twice as far as the one before; the first above the nearest root. 0: none.
  FPRNN_INLINE int64_t around(const Projection& p, real sigma) {
    constexpr int64_t kMiddle = kKrylovSections / 2;
    real distance = sigma * kKrylovNearest;
    for (int64_t i = 0; i < kMiddle; ++i, distance *= 2) {
      sections_.sigma[kMiddle + i] = sigma + distance;
      sections_.sigma[kMiddle - 1 - i] = sigma - distance;
    }
    sections_.solve(p);
    for (int64_t i = 0; i < kMiddle; ++i) {
      if (sections_.crosses(p, kMiddle + i)) return kMiddle + i;
      if (i < kMiddle - 1 && sections_.crosses(p, kMiddle - 1 - i)) return kMiddle - 1 - i;
    }
    return 0;
  }
  // Sections from `low` to where there is no root any more; the first above the largest.
  FPRNN_INLINE int64_t everywhere(const Projection& p, real low) {
    real squares = 0;
    for (int64_t i = 0; i < p.m; ++i)
      for (int64_t j = i == 0 ? 0 : i - 1; j < p.m; ++j) squares += p.at(i, j) * p.at(i, j);
    const real high =
        square_root(squares) + static_cast<real>(1.5) * p.start / square_root(p.D) + 2 * low;
    const real ratio = static_cast<real>(
        __builtin_exp(__builtin_log(static_cast<double>(high / low)) / kKrylovSections));
    for (int64_t i = 0; i < kKrylovSections; ++i)
      sections_.sigma[i] = (i == 0 ? low : sections_.sigma[i - 1]) * ratio;
    sections_.solve(p);
    int64_t k = kKept;
    while (k > 0 && !sections_.crosses(p, k)) --k;
    return k;
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
      lanes.store(y_ + d, linear
                              ? lanes.load(y_ + d) + total
                              : lanes.load(args_.weight + d) * total + lanes.load(args_.bias + d));
    });
  }

  static constexpr int64_t kKept = kKrylovSections - 1;  // the section that becomes the solution

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
