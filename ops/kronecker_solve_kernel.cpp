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
  real start;  // the length of the vector that the basis begins with
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
    basis_ = space;
    h_ = basis_ + (most_ + 1) * D_;
    sections_.c = h_ + (most_ + 1) * most_;
  }

  // y; how many products that took.
  FPRNN_INLINE int64_t solve() {
    const bool normalised = args_.weight != nullptr;
    for (int64_t d = 0; d < D_; ++d) y_[d] = 0;
    real last = static_cast<real>(__builtin_inff());
    bool plain = true, linear = !normalised;
    int64_t count = 1;
    for (;; ++count) {
      evaluate();
      if (!(difference_ == difference_)) {
        for (int64_t d = 0; d < D_; ++d) y_[d] = difference_;
        return args_.max_iterations;
      }
      if (difference_ <= within() || count >= args_.max_iterations) break;
      plain = plain &&
              ((normalised && count < kKrylovAfter) ||
               difference_ < last * static_cast<real>(0.5) || difference_ <= kKrylovNear * size_);
      last = difference_;
      if (plain || !leap(linear, count))
        for_lanes(D_, [&](int64_t d, auto lanes) {
          lanes.store(y_ + d, lanes.load(y_ + d) + lanes.load(change_ + d));
        });
      linear = linear || !plain;
    }
    return minimum(count, args_.max_iterations);
  }

 private:
  FPRNN_INLINE real within() const { return args_.tolerance * (size_ + static_cast<real>(1e-8)); }

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
    return length;
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
    int64_t m = 0;
    for (bool ends = false; !ends;) {
      ends = !extend(linear, ++m) || m == most;
      ++count;
      if (!ends && !FPRNN_KRYLOV_LOOKS(m)) continue;
      const Projection p{h_, m, most_, start};
      if (linear) {
        for (real& sigma : sections_.sigma) sigma = 1;
        sections_.solve(p);
        ends = ends || missing(p, 0) <= within();
      } else {
        ends = secular(p, ends) || ends;
      }
    }
    write(linear, m, start);
    return true;
  }

  // What the projected equation leaves of the whole one, for section k.
  FPRNN_INLINE real missing(const Projection& p, int64_t k) const {
    const real last = sections_.c[(p.m - 1) * kKrylovSections + k];
    return __builtin_fabs(p.at(p.m, p.m - 1) * last * p.start / sections_.t[k]);
  }

  // The largest sigma with |c| = |n|, and its c; returns whether that solves the whole equation. Not
  // `certain`: one that does not is given up early.
  FPRNN_INLINE bool secular(const Projection& p, bool certain) {
    const real D = static_cast<real>(D_);
    real low = square_root(args_.eps), squares = 0, top = 0;
    for (int64_t i = 0; i < p.m; ++i)
      for (int64_t j = i == 0 ? 0 : i - 1; j < p.m; ++j) squares += p.at(i, j) * p.at(i, j);
    real high = square_root(squares) + static_cast<real>(1.5) * p.start / square_root(D) + 2 * low;
    const real ratio = static_cast<real>(
        __builtin_exp(__builtin_log(static_cast<double>(high / low)) / kKrylovSections));
    for (int round = 0; round < kKrylovRounds; ++round) {
      real grown = low;
      for (int64_t k = 0; k < kKrylovSections; ++k) {
        grown *= ratio;
        sections_.sigma[k] = round == 0 ? grown
                                        : low + (high - low) * static_cast<real>(k + 1) /
                                                    static_cast<real>(kKrylovSections);
      }
      sections_.solve(p);
      if (round == 0) top = sections_.t[kKrylovSections - 1];
      int64_t k = kKrylovSections - 1;
      while (k > 0 && !below(p, k - 1, top)) --k;
      if (k > 0) low = sections_.sigma[k - 1];
      high = sections_.sigma[k];
      if (round == 1 && !certain && missing(p, k) > kKrylovHope * high * within()) return false;
    }
    sigma_ = (low + high) / 2;
    for (real& sigma : sections_.sigma) sigma = sigma_;
    sections_.solve(p);
    return missing(p, 0) <= sigma_ * within();
  }
  // Whether section k's sigma is too small: |c| is larger than |n|, or has been infinite since.
  FPRNN_INLINE bool below(const Projection& p, int64_t k, real top) const {
    const real t = sections_.t[k], sigma = sections_.sigma[k];
    const real most = static_cast<real>(D_) * (1 - args_.eps / (sigma * sigma));
    return (t < 0) != (top < 0) || p.start * p.start * sections_.squares[k] >= most * t * t;
  }

  // y + V c, no further than f is long, or delta + gamma . V c with the n that has the length for
  // sigma.
  FPRNN_INLINE void write(bool linear, int64_t m, real start) {
    const real t = sections_.t[0], length = square_root(sections_.squares[0]);
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
        total += sections_.c[i * kKrylovSections] * lanes.load(basis_ + i * D_ + d);
      total *= factor;
      lanes.store(y_ + d, linear
                              ? lanes.load(y_ + d) + total
                              : lanes.load(args_.weight + d) * total + lanes.load(args_.bias + d));
    });
  }

  const KroneckerSolve& args_;
  const int64_t D_, most_;
  const real *left_, *right_, *offset_, *gain_;
  real *y_, *n_, *change_, *v_, *left_x_, *basis_, *h_;
  real inverse_ = 1, difference_ = 0, size_ = 0, sigma_ = 0;
  Sections sections_;
};

}  // namespace

void kronecker_solve(const KroneckerSolve& args, real* space, int64_t begin, int64_t end) {
  for (int64_t token = begin; token < end; ++token)
    args.iterations[token] = static_cast<int32_t>(Token(args, token, space).solve());
}

}  // namespace fprnn::FPRNN_ISA
