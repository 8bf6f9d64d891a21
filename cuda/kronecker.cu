// The Kronecker mixer (ops/kronecker.h). A warp takes a token, with all its matrices in shared memory: a
// factor of up to 32 rows, which is made again for its gradient; the product of sizes that lanes
// divide evenly, and its gradient. Any other sizes take a block a token, which reads its matrices
// from memory and has working space in scratch where shared memory does not do.
//
// Bytes bound the product: D + m1^2 + m2^2 elements in and D out; backward 2 D + m1^2 + m2^2 in and
// D + m1^2 + m2^2 out. A factor is bound by its 2 m^3 flops (backward 4 m^3) out of shared memory and,
// with a power iteration, by the latency of its 16 steps.
#include <fprnn/cuda/kronecker.cuh>
#include <fprnn/cuda/kronecker_factor.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/ops/kronecker.h>

namespace fprnn {

namespace cuda {
namespace {

// Warps of a product's token: few, since there are many tokens. Teams of a block.
template <int M1, int M2>
constexpr int kWarpsOf = M1 >= 32 ? 2 : 1;
template <int W>
constexpr int teams_of = W < 4 ? 4 / W : 1;
constexpr int kMostThreads = Team<8>::kSize;
// Of a product's block, four of which have a multiprocessor's registers.
template <int M1, int M2>
constexpr int kThreadsOf = teams_of<kWarpsOf<M1, M2>>* kWarpsOf<M1, M2>* kWarp;

template <int W, class M>
__global__ void __launch_bounds__(kMostThreads)
    factor_forward_kernel(KroneckerFactorForward args, M m, Workspace workspace) {
  for_tokens<W>(args.tokens, workspace, [&](const auto& team, int64_t token, real* space) {
    const real* k = args.k + token * args.k_stride;
    const real* gates = args.gates + token * args.gate_stride;
    KroneckerFactor<M> factor(m, args.norm, args.eps, space);
    factor.make(team, [&](auto t) { return k[t]; });
    factor.write(
        team, [&](auto i) { return gates[i]; }, args.transposed, args.factor + token * m * m);
  });
}

template <int W, class M>
__global__ void __launch_bounds__(kMostThreads)
    factor_backward_kernel(KroneckerFactorBackward args, M m, Workspace workspace) {
  const KroneckerFactorForward& in = args.forward;
  for_tokens<W>(in.tokens, workspace, [&](const auto& team, int64_t token, real* space) {
    const int64_t first_k = token * in.k_stride, first_gate = token * in.gate_stride;
    const real* k = in.k + first_k;
    const real* gates = in.gates + first_gate;
    const real* dfactor = args.dfactor + token * m * m;
    real* dk = args.dk + first_k;
    real* dgates = args.dgates + first_gate;
    KroneckerFactor<M> factor(m, in.norm, in.eps, space);
    factor.make(team, [&](auto t) { return k[t]; });
    factor.gradient(
        team, space + factor.space(m, in.norm), in.transposed, [&](auto t) { return dfactor[t]; },
        [&](auto i) { return gates[i]; }, [&](auto i, real dgate) { dgates[i] = dgate; },
        [&](auto t, real x) { dk[t] = x; });
  });
}

// visit(the warps that take a token, m), a constant for the sizes that matter.
template <class Visit>
void with_size(int64_t m, const Visit& visit) {
  if (m == 8) return visit(Constant<1>(), Constant<8>());
  if (m == 16) return visit(Constant<1>(), Constant<16>());
  if (m == 32) return visit(Constant<1>(), Constant<32>());
  if (m < 32) return visit(Constant<1>(), static_cast<int>(m));
  visit(Constant<8>(), m);
}

template <int M1, int M2>
__global__ void __launch_bounds__(kMostThreads)
    kronecker_forward_kernel(KroneckerForward args, Workspace workspace) {
  constexpr int W = kWarpsOf<M1, M2>;
  using Product = RegisterProduct<W, M1, M2>;
  for_tokens<W>(args.tokens, workspace, [&](const auto& team, int64_t token, real* space) {
    real* const right = space + M1 * M1;
    const auto channels = Product::channels(team);
    real x[Product::C], y[Product::C];
    channels.each([&](int k, int d) { x[k] = args.v[token * (M1 * M2) + d]; });
    team.copy(Constant<M1 * M1>(), args.left + token * (M1 * M1), space);
    team.copy(Constant<M2 * M2>(), args.right + token * (M2 * M2), right);
    team.sync();
    const Product product(team, space, right, right + M2 * M2);
    product.apply(x, y);
    channels.each([&](int k, int d) { args.y[token * (M1 * M2) + d] = x[k] - args.scale * y[k]; });
  });
}

__global__ void __launch_bounds__(kMostThreads)
    kronecker_forward_any_kernel(KroneckerForward args, Workspace workspace) {
  const int64_t m1 = args.m1, m2 = args.m2;
  for_tokens<8>(args.tokens, workspace, [&](const auto& team, int64_t token, real* left_x) {
    const real* left = args.left + token * m1 * m1;
    const real* right = args.right + token * m2 * m2;
    const real* x = args.v + token * m1 * m2;
    real* y = args.y + token * m1 * m2;
    small_product(
        team, m1, m1, m2, [&](int64_t i, int64_t l) { return left[l * m1 + i]; },
        [&](int64_t l, int64_t j) { return x[l * m2 + j]; },
        [&](int64_t i, int64_t j, real total) { left_x[i * m2 + j] = total; });
    team.sync();
    small_product(
        team, m1, m2, m2, [&](int64_t i, int64_t l) { return left_x[i * m2 + l]; },
        [&](int64_t l, int64_t j) { return right[l * m2 + j]; },
        [&](int64_t i, int64_t j, real total) {
          y[i * m2 + j] = x[i * m2 + j] - args.scale * total;
        });
  });
}

// A matrix whose rows are `stride` reals apart.
template <class Stride>
struct Rows {
  const real* first;
  Stride stride;
  template <class Index>
  __device__ __forceinline__ real operator()(Index i, Index j) const {
    return first[i * static_cast<Index>(stride) + j];
  }
};

// Y = left^T X right and y = v - scale Y. With Z = dY right^T:
//   dX = left Z,   dleft = X Z^T,   dright = (left^T X)^T dY,   dv = dy + dX.
// What is given as matrices is in shared memory or not; space: 2 m1 odd_stride(m2) reals.
template <class T, class M1, class M2, class Left, class Wide>
__device__ __forceinline__ void backward_token(const KroneckerBackward& args, const T& team,
                                               int64_t token, M1 m1, M2 m2, const Left& left,
                                               const Wide& right, const Wide& x, const Wide& dy,
                                               real* space) {
  using Index = typename T::Index;
  const Index stride = odd_stride(m2);
  real* const left_x = space;
  real* const z = space + m1 * stride;
  const real scale = -args.forward.scale;
  small_product(
      team, m1, m1, m2, [&](Index i, Index l) { return left(l, i); }, x,
      [&](Index i, Index j, real total) { left_x[i * stride + j] = total; });
  small_product(
      team, m1, m2, m2, dy, [&](Index l, Index j) { return right(j, l); },
      [&](Index i, Index j, real total) { z[i * stride + j] = scale * total; });
  team.sync();
  real* const dright = args.dright + token * m2 * m2;
  small_product(
      team, m2, m1, m2, [&](Index i, Index l) { return left_x[l * stride + i]; }, dy,
      [&](Index i, Index j, real total) { dright[i * m2 + j] = scale * total; });
  real* const dleft = args.dleft + token * m1 * m1;
  small_product(
      team, m1, m2, m1, x, [&](Index l, Index j) { return z[j * stride + l]; },
      [&](Index i, Index j, real total) { dleft[i * m1 + j] = total; });
  real* const dv = args.dv + token * m1 * m2;
  small_product(
      team, m1, m1, m2, left, [&](Index l, Index j) { return z[l * stride + j]; },
      [&](Index i, Index j, real total) { dv[i * m2 + j] = dy(i, j) + total; });
}

template <int M1, int M2>
constexpr int64_t kBackwardSpace = M1* odd_stride(M1) + (M2 + 4 * M1) * odd_stride(M2);

template <int M1, int M2>
__global__ void __launch_bounds__(kThreadsOf<M1, M2>, 4)
    kronecker_backward_kernel(KroneckerBackward args, Workspace workspace) {
  const KroneckerForward& in = args.forward;
  const Constant<M1> m1;
  const Constant<M2> m2;
  using Left = Rows<Constant<odd_stride(M1)>>;
  using Wide = Rows<Constant<odd_stride(M2)>>;
  for_tokens<kWarpsOf<M1, M2>>(
      in.tokens, workspace, [&](const auto& team, int64_t token, real* space) {
        const auto copy = [&](auto m, auto n, const real* from) {
          const real* const to = space;
          copy_rows(team, m, n, from + token * (m * n), space);
          space += m * odd_stride(n);
          return to;
        };
        const Left left{copy(m1, m1, in.left), {}};
        const Wide right{copy(m2, m2, in.right), {}}, x{copy(m1, m2, in.v), {}},
            dy{copy(m1, m2, args.dy), {}};
        team.sync();
        backward_token(args, team, token, m1, m2, left, right, x, dy, space);
      });
}

__global__ void __launch_bounds__(kMostThreads)
    kronecker_backward_any_kernel(KroneckerBackward args, Workspace workspace) {
  const KroneckerForward& in = args.forward;
  const int64_t m1 = in.m1, m2 = in.m2;
  for_tokens<8>(in.tokens, workspace, [&](const auto& team, int64_t token, real* space) {
    const Rows<int64_t> left{in.left + token * m1 * m1, m1}, right{in.right + token * m2 * m2, m2},
        x{in.v + token * m1 * m2, m2}, dy{args.dy + token * m1 * m2, m2};
    backward_token(args, team, token, m1, m2, left, right, x, dy, space);
  });
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const KroneckerFactorForward& args) {
  with_size(args.m, [&](auto warps, auto m) {
    constexpr int W = decltype(warps)::value;
    start_teams<W>(cuda, "kronecker_factor_forward", factor_forward_kernel<W, decltype(m)>,
                   args.tokens, KroneckerFactor<int64_t>::space(args.m, args.norm), teams_of<W>,
                   args, m);
  });
}

void run(Cuda cuda, const KroneckerFactorBackward& args) {
  using Factor = KroneckerFactor<int64_t>;
  const int64_t space = Factor::space(args.forward.m, args.forward.norm) +
                        Factor::gradient_space(args.forward.m, args.forward.norm);
  with_size(args.forward.m, [&](auto warps, auto m) {
    constexpr int W = decltype(warps)::value;
    start_teams<W>(cuda, "kronecker_factor_backward", factor_backward_kernel<W, decltype(m)>,
                   args.forward.tokens, space, teams_of<W>, args, m);
  });
}

void run(Cuda cuda, const KroneckerForward& args) {
  const bool done = with_constants(args.m1, args.m2, [&](auto m1, auto m2) {
    constexpr int M1 = decltype(m1)::value, M2 = decltype(m2)::value;
    constexpr int W = kWarpsOf<M1, M2>;
    start_teams<W>(cuda, "kronecker_forward", kronecker_forward_kernel<M1, M2>, args.tokens,
                   RegisterProduct<W, M1, M2>::kSpace + M1 * M1 + M2 * M2, teams_of<W>, args);
  });
  if (!done)
    start_teams<8>(cuda, "kronecker_forward", kronecker_forward_any_kernel, args.tokens,
                   args.m1 * args.m2, 1, args);
}

void run(Cuda cuda, const KroneckerBackward& args) {
  const KroneckerForward& in = args.forward;
  const bool done = with_constants(in.m1, in.m2, [&](auto m1, auto m2) {
    constexpr int M1 = decltype(m1)::value, M2 = decltype(m2)::value;
    constexpr int W = kWarpsOf<M1, M2>;
    start_teams<W>(cuda, "kronecker_backward", kronecker_backward_kernel<M1, M2>, in.tokens,
                   kBackwardSpace<M1, M2>, teams_of<W>, args);
  });
  if (!done)
    start_teams<8>(cuda, "kronecker_backward", kronecker_backward_any_kernel, in.tokens,
                   2 * in.m1 * odd_stride(in.m2), 1, args);
}

}  // namespace fprnn
