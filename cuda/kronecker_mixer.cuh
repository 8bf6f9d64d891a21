// The Kronecker mixer of a sweep's token, by a team (cuda/sweep_mixer.cuh). Its factors are
// computed from p in shared memory; later what the solver and the gradient need of them takes their
// place.
#pragma once

#include <fprnn/cuda/fp_mamba_token.cuh>
#include <fprnn/cuda/kronecker_adjoint.cuh>
#include <fprnn/cuda/kronecker_factor.cuh>
#include <fprnn/cuda/local_solve.cuh>
#include <fprnn/ops/sweep_mixer.h>

namespace fprnn::cuda {

// Sizes of a Kronecker product: those that a team divides evenly, as constants, and any others with up to C
// channels to a thread.
template <int M1, int M2>
struct FixedKroneckerSizes {
  static constexpr int W = kTeamOf<M1, M2>, C = M1 * M2 / Team<W>::kSize;
  Constant<M1> m1;
  Constant<M2> m2;
  FPRNN_HOST_DEVICE explicit FixedKroneckerSizes(const SweepMixer&) {}
  using Product = ProductOf<M1, M2>;
  FPRNN_HOST_DEVICE int work() const { return static_cast<int>(Product::kSpace); }
  __device__ auto channels(const Team<W>& team) const { return Product::channels(team); }
  template <class Channels>
  __device__ Product product(const Channels& c, const real* left, const real* right,
                             real* work) const {
    return Product(c.team, left, right, work);
  }
};
template <int W_, int C_>
struct AnyKroneckerSizes {
  static constexpr int W = W_, C = C_;
  int m1, m2;
  FPRNN_HOST_DEVICE explicit AnyKroneckerSizes(const SweepMixer& mixer)
      : m1(static_cast<int>(mixer.m1)), m2(static_cast<int>(mixer.m2)) {}
  FPRNN_HOST_DEVICE int work() const { return 2 * m1 * m2; }
  __device__ auto channels(const Team<W>& team) const {
    return cuda::Channels<Team<W>, Constant<C>, int>{team, {}, m1 * m2};
  }
  template <class Channels>
  __device__ AnyProduct<Team<W>, Channels> product(const Channels& c, const real* left,
                                                   const real* right, real* work) const {
    return {c, left, right, work, m1, m2};
  }
};

template <class Sizes>
class KroneckerMixer {
 public:
  using T = Team<Sizes::W>;
  static constexpr int C = Sizes::C;
  // Of a block, if it keeps them: eight warps have all registers. Krylov's space of few channels may have
  // as many vectors as there are channels, and takes more shared memory.
  static constexpr int kSequences = C * T::kSize <= kKrylovLong ? 2
                                    : T::kWarps > 2             ? 8 / T::kWarps
                                                                : 4;

  // How many numbers it is made of.
  FPRNN_HOST_DEVICE static int64_t numbers(const SweepMixer& mixer) {
    return (mixer.m1 * (mixer.m1 + 1) + mixer.m2 * (mixer.m2 + 1)) / 2 + mixer.m1 + mixer.m2;
  }
  // Reals of shared memory: with the gradient for it and the adjoint, else for the solver.
  static int64_t space(const SweepMixer& mixer, bool with_gradient) {
    return Places(Sizes(mixer), mixer.norm, with_gradient).end;
  }

  // p(j): the triangles of E_1 and E_2, then the gates of both.
  template <class P>
  __device__ KroneckerMixer(const T& team, const SweepMixer& mixer, int64_t, real eps, const P& p,
                            real* space, bool with_gradient)
      : team_(team),
        mixer_(mixer),
        sizes_(mixer),
        at_(sizes_, mixer.norm, with_gradient),
        space_(space),
        eps_(eps) {
    real* const gates = space + at_.gates;
    team.each(sizes_.m1 + sizes_.m2, [&](auto i) { gates[i] = sigmoid(p(both_triangles() + i)); });
    team.sync();
    at_once([&](const auto& by, auto m, int which) { make(by, side(m, which), p, with_gradient); });
  }
  __device__ auto channels() const { return sizes_.channels(team_); }
  template <class Sweep, class Visit>
  static __device__ void each_channel(const T& team, const Sweep& in, const Visit& visit) {
    Sizes(in.mixer).channels(team).each(visit);
  }

  __device__ void apply(real (&v)[C]) const { mix(at_.left, at_.right, v); }
  __device__ void apply_transposed(real (&v)[C]) const {
    mix(at_.turned_left, at_.turned_right, v);
  }

  __device__ int32_t solve(const LocalParameters& at, const real (&offset)[C],
                           const real (&gain)[C], const real (&weight)[C], const real (&bias)[C],
                           real (&y)[C], real (&mixed)[C]) const {
    const auto c = channels();
    const int32_t count =
        kronecker_iterate(parameters(at), c, product(c, at_.left, at_.right), offset, gain, weight,
                          bias, y, mixed, space_ + at_.krylov);
#pragma unroll
    for (int k = 0; k < C; ++k) mixed[k] = y[k] - mixed[k];
    return count;
  }
  __device__ int32_t adjoint(const LocalParameters& at, const real (&offset)[C],
                             const real (&gain)[C], const real (&weight)[C], const real (&)[C],
                             const real (&y)[C], const real (&w)[C], real (&v)[C]) const {
    real n[C]{}, f[C]{};
    const auto c = channels();
    const real inverse = kronecker_normalised(parameters(at), c, product(c, at_.left, at_.right),
                                              offset, gain, y, n);
    return kronecker_adjoint(parameters(at), c, product(c, at_.turned_left, at_.turned_right), n,
                             inverse, gain, weight, w, v, f);
  }

  // With dq the cotangent of Q e = e - scale left^T X right: give(j, dp_j).
  template <class P, class Give>
  __device__ void gradient(real, const P& p, const real (&e)[C], const real (&dq)[C],
                           const Give& give) const {
    const int n2 = sizes_.m2, stride = static_cast<int>(odd_stride(sizes_.m2));
    real *const x = space_ + at_.wide, *const dproduct = x + sizes_.m1 * stride;
    // The turned factors have been used.
    real *const dleft = space_ + at_.turned_left, *const dright = space_ + at_.turned_right;
    team_.sync();
    channels().each([&](int k, int d) {
      const int at = d / n2 * stride + d % n2;
      x[at] = e[k];
      dproduct[at] = -mixer_.scale * dq[k];
    });
    at_once([&](const auto& by, auto m, int which) {
      const auto own = side(m, which);
      own.factor.write(by, own.gate(), own.transposed, space_ + own.to,
                       static_cast<int>(odd_stride(m)));
    });
    factor_cotangents(x, dproduct, dproduct + sizes_.m1 * stride, dleft, dright);
    // x has been used.
    real* const rest_of_right = x + KroneckerFactor<int>::gradient_space(sizes_.m1, mixer_.norm);
    at_once([&](const auto& by, auto m, int which) {
      const auto own = side(m, which);
      const real* const dfactor = space_ + own.turned;
      own.factor.gradient(
          by, which == 0 ? x : rest_of_right, own.transposed, [=](int t) { return dfactor[t]; },
          own.gate(),
          [&](int i, real dgate) {
            const real gate = own.gates[i];
            give(own.first_gate + i, dgate * gate * (1 - gate));
          },
          [&](int t, real dk) {
            const int j = own.first_number + t;
            give(j, dk * silu_slope(p(j)));
          });
    });
  }

 private:
  // Where things begin in shared memory, each at a multiple of 16 bytes.
  struct Places {
    int gates, left, right, work, first, second, turned_left, turned_right, krylov;
    int wide;  // three matrices like X with rows an odd number of reals apart, of the gradient
    int end;
    FPRNN_HOST_DEVICE Places(const Sizes& sizes, KroneckerNorm norm, bool with_gradient) {
      const int m1 = sizes.m1, m2 = sizes.m2, larger = m1 > m2 ? m1 : m2;
      int next = 0;
      const auto take = [&next](int64_t reals) {
        const int at = next;
        next += static_cast<int>((reals + Quad::kCount - 1) / Quad::kCount * Quad::kCount);
        return at;
      };
      gates = take(m1 + m2 + 2);
      left = take(m1 * odd_stride(m1));
      right = take(larger * odd_stride(m2));
      work = take(sizes.work());
      first = take(KroneckerFactor<int>::space(m1, norm));
      second = take(KroneckerFactor<int>::space(m2, norm));
      // What made the factors is used again by the gradient alone; the solver may write over it.
      krylov = first;
      const int needed = kEquationSpace<T, C>;
      if (!with_gradient && next < krylov + needed) take(krylov + needed - next);
      turned_left = with_gradient ? take(m1 * m1) : 0;
      turned_right = with_gradient ? take(m2 * m2) : 0;
      // Where the product has worked, if that does. The gradients of the factors work there too.
      const int64_t like_x = m1 * odd_stride(m2),
                    more = KroneckerFactor<int>::gradient_space(m1, norm) +
                           KroneckerFactor<int>::gradient_space(m2, norm),
                    needed_wide = 3 * like_x > more ? 3 * like_x : more;
      wide = sizes.work() >= needed_wide ? work : take(with_gradient ? needed_wide : 0);
      end = next;
    }
  };

  __device__ int triangle() const { return sizes_.m1 * (sizes_.m1 + 1) / 2; }
  __device__ int both_triangles() const { return triangle() + sizes_.m2 * (sizes_.m2 + 1) / 2; }

  // One of the two, left (0) or right (1), which is kept transposed.
  template <class M>
  struct Side {
    KroneckerFactor<M> factor;
    const real* gates;
    int first_number, first_gate;  // in p
    int to, turned;                // where it goes, and where transposed
    bool transposed;
    __device__ __forceinline__ auto gate() const {
      return [of = gates](int i) { return of[i]; };
    }
  };
  template <class M>
  __device__ __forceinline__ Side<M> side(M m, int which) const {
    const bool right = which == 1;
    Side<M> side{
        KroneckerFactor<M>(m, mixer_.norm, eps_, space_ + (right ? at_.second : at_.first)),
        space_ + at_.gates + (right ? static_cast<int>(sizes_.m1) : 0),
        right ? triangle() : 0,
        both_triangles() + (right ? static_cast<int>(sizes_.m1) : 0),
        right ? at_.right : at_.left,
        right ? at_.turned_right : at_.turned_left,
        right};
    side.factor.inverse = *inverse_of(which);
    return side;
  }
  __device__ __forceinline__ real* inverse_of(int which) const {
    return space_ + at_.gates + sizes_.m1 + sizes_.m2 + which;
  }
  // visit(m, which) for those from `from` up to `end`, sizes of one type by one piece of code.
  template <class Visit>
  __device__ __forceinline__ void each_side(int from, int end, const Visit& visit) const {
    using M1 = decltype(Sizes::m1);
    if constexpr (std::is_same_v<M1, decltype(Sizes::m2)>) {
#pragma unroll 1
      for (int which = from; which < end; ++which) {
        M1 m = sizes_.m1;
        if constexpr (std::is_same_v<M1, int>) m = which == 0 ? sizes_.m1 : sizes_.m2;
        visit(m, which);
      }
    } else {
      if (from == 0) visit(sizes_.m1, 0);
      if (end == 2) visit(sizes_.m2, 1);
    }
  }
  // visit(team, m, which) for both. Most of what there is to do is a chain of small steps: two
  // halves of the team do it at once.
  template <class Visit>
  __device__ __forceinline__ void at_once(const Visit& visit) const {
    if constexpr (T::kWarps == 1) {
      each_side(0, 2, [&](auto m, int which) { visit(team_, m, which); });
    } else {
      const auto half = team_.half();
      const int own = team_.rank < T::kSize / 2 ? 0 : 1;
      each_side(own, own + 1, [&](auto m, int which) { visit(half, m, which); });
    }
    team_.sync();
  }
  template <class By, class Own, class P>
  __device__ __forceinline__ void make(const By& by, Own own, const P& p,
                                       bool with_gradient) const {
    own.factor.inverse = 1;
    own.factor.make(by, [&](int t) { return silu(p(own.first_number + t)); });
    own.factor.write(by, own.gate(), own.transposed, space_ + own.to);
    if (with_gradient) own.factor.write(by, own.gate(), !own.transposed, space_ + own.turned);
    if (by.rank == 0) *inverse_of(own.transposed ? 1 : 0) = own.factor.inverse;
  }

  __device__ KroneckerParameters parameters(const LocalParameters& at) const {
    return {.scale = mixer_.scale,
            .normalised = at.normalised,
            .centred = at.centred,
            .eps = at.eps,
            .tolerance = at.tolerance,
            .max_iterations = static_cast<int32_t>(at.max_iterations < INT32_MAX ? at.max_iterations
                                                                                 : INT32_MAX)};
  }
  template <class Channels>
  __device__ auto product(const Channels& c, int left, int right) const {
    return sizes_.product(c, space_ + left, space_ + right, space_ + at_.work);
  }
  __device__ void mix(int left, int right, real (&v)[C]) const {
    const auto c = channels();
    real y[C]{};
    product(c, left, right).apply(v, y);
    add_multiple(v, -mixer_.scale, y);
  }

  // Of P = left^T X right: Z = dP right^T, dleft = X Z^T, dright = (left^T X)^T dP. left^T X comes where right has
  // been. All have rows an odd number of reals apart but the last two.
  __device__ void factor_cotangents(const real* x, const real* dproduct, real* z, real* dleft,
                                    real* dright) const {
    const int n1 = sizes_.m1, n2 = sizes_.m2;
    const int s1 = static_cast<int>(odd_stride(n1)), s2 = static_cast<int>(odd_stride(n2));
    const real* const left = space_ + at_.left;
    real *const right = space_ + at_.right, *const left_x = right;
    small_product(
        team_, sizes_.m1, sizes_.m2, sizes_.m2, [=](int i, int l) { return dproduct[i * s2 + l]; },
        [=](int l, int j) { return right[j * s2 + l]; },
        [=](int i, int j, real total) { z[i * s2 + j] = total; });
    team_.sync();
    small_product(
        team_, sizes_.m1, sizes_.m1, sizes_.m2, [=](int i, int l) { return left[l * s1 + i]; },
        [=](int l, int j) { return x[l * s2 + j]; },
        [=](int i, int j, real total) { left_x[i * s2 + j] = total; });
    small_product(
        team_, sizes_.m1, sizes_.m2, sizes_.m1, [=](int i, int l) { return x[i * s2 + l]; },
        [=](int l, int j) { return z[j * s2 + l]; },
        [=](int i, int j, real total) { dleft[i * n1 + j] = total; });
    team_.sync();
    small_product(
        team_, sizes_.m2, sizes_.m1, sizes_.m2, [=](int i, int l) { return left_x[l * s2 + i]; },
        [=](int l, int j) { return dproduct[l * s2 + j]; },
        [=](int i, int j, real total) { dright[i * n2 + j] = total; });
    team_.sync();
  }

  const T& team_;
  const SweepMixer& mixer_;
  Sizes sizes_;
  Places at_;
  real* space_;
  real eps_;
};

}  // namespace fprnn::cuda
