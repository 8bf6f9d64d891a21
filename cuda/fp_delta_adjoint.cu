// FP-DeltaNet's adjoint sweep step by step (ops/fp_delta_sweep.h): for each, one kernel in which a team
// takes a sequence, and one product of matrices. The states of a chunk of steps are made first, from
// the one that a first pass left at its beginning. The kernel goes through the state and its cotangent twice: by
// columns, of which a thread has whole ones, then by rows, the second time out of the first-level cache.
#include <fprnn/core/vector.h>
#include <fprnn/cuda/fp_delta_token.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/sweep.cuh>
#include <fprnn/cuda/sweep_adjoint.cuh>

#include <vector>

namespace fprnn {

namespace cuda {
namespace {

constexpr int64_t kStatesAtOnce = int64_t{1} << 26;

// Steps [begin, end) of the recurrence, one column of the state a thread; `all` gets the states
// before each step, `last` that after them.
struct Recurrence {
  FpDeltaAdjoint in;
  int64_t begin, end;
  const real* from;  // (B, H, K, V) or null
  real* all;         // (end - begin, B, H, K, V)
  real* last;        // (B, H, K, V) or null; then `all` has room for one
};
void make_states(Cuda cuda, const Recurrence& args) {
  const int64_t columns = args.in.B * args.in.D;
  for_each(cuda, "fp_delta_states", columns, [args, columns] __device__(int64_t i) {
    const FpDeltaAdjoint& in = args.in;
    const int64_t d = i % in.D, b = i / in.D, head = d / in.V, K = in.K, V = in.V;
    const int64_t column = (b * in.H + head) * K * V + d % V, all = columns * K;
    const real* h = args.from;
    for (int64_t t = args.begin; t < args.end; ++t) {
      const bool keeps = args.last == nullptr;
      real* const to = args.all + (keeps ? (t - args.begin) * all : 0) + column;
      const int64_t row = b * in.T + t, step = row * in.H + head;
      const real* const key = in.k + step * K;
      real read = 0;
      for (int64_t n = 0; n < K; ++n) {
        const real state = h == nullptr ? real(0) : h[column + n * V];
        read += state * key[n];
        if (keeps && t == args.begin) to[n * V] = state;
      }
      const bool ends = t + 1 == args.end;
      if (keeps && ends) return;
      const real keep = decay_of(in, row, head);
      const real c = in.beta[step] * (in.mixed[row * in.D + d] - keep * read);
      real* const next = keeps ? to + all : (ends ? args.last : args.all) + column;
      for (int64_t n = 0; n < K; ++n)
        next[n * V] = keep * (h == nullptr ? real(0) : h[column + n * V]) + key[n] * c;
      h = next - column;
    }
  });
}

// Step t, and what passes from one to the one before it in time.
struct Step {
  FpDeltaAdjoint in;
  int64_t t;
  const real* states;  // (B, H, K, V): S_{t-1}
  real* dstate;  // (B, H, K, V): the cotangent of S_t from later steps; becomes that of S_{t-1}
  const real* dprevious;  // (B, D) of y_t as a previous one, or null behind the last step
  real* dp;               // (B, P)
  bool last;
};

// What a step's rows of the state meet, in shared memory, (D) each: c, the cotangent of v times
// 1 / sqrt(d_k), and that of u = S_{t-1}^T k.
struct Columns {
  real *c, *dv, *du;
  static constexpr int kCount = 3;
  __device__ __forceinline__ Columns(int64_t D, real* space) : c(space), dv(c + D), du(dv + D) {}
};

// Of shared memory, besides what team and mixer have: decays, sums of heads, the token, dk and dq, columns.
FPRNN_HOST_DEVICE inline int64_t step_reals(const FpDeltaAdjoint& in) {
  return whole_quads(3 * in.H + DeltaPlaces::reals(in) + 2 * in.H * in.K + Columns::kCount * in.D);
}

// dk and dq (H, K) in shared memory, and the cotangent of S_{t-1}, from that of S_t. dstate is read
// and written by the same thread.
template <class T>
__device__ __forceinline__ void through_state(const T& team, const Step& step, int64_t b,
                                              const DeltaPlaces& token, const real* decay,
                                              const Columns& columns, const real* met_c, real* dk,
                                              real* dq) {
  using Index = typename T::Index;
  const FpDeltaAdjoint& in = step.in;
  const auto K = static_cast<Index>(in.K), V = static_cast<Index>(in.V);
  const int64_t states = b * in.D * in.K;
  team.row_sums(
      in.H * K, V,
      [&](auto row, auto j) {
        const auto head = row / K;
        return step.states[states + row * V + j] * columns.dv[head * V + j];
      },
      [&](auto row, real sum) {
        const auto head = row / K;
        dq[row] = decay[head] * sum + token.keys[row] * met_c[head];
      });
  team.row_sums(
      in.H * K, V,
      [&](auto row, auto j) {
        const auto head = row / K, d = head * V + j;
        const int64_t at = states + row * V + j;
        const real from_later = step.last ? real(0) : step.dstate[at];
        const real dS = from_later + token.queries[row] * columns.dv[d];
        step.dstate[at] = decay[head] * dS + token.keys[row] * columns.du[d];
        return dS * columns.c[d] + step.states[at] * columns.du[d];
      },
      [&](auto row, real sum) { dk[row] = sum; });
  team.sync();
}

// From dk and dq to the numbers that keys and queries are computed from: give(j, dp_j), counted
// from the first of the keys. along (2 H): space.
template <class T, class Give>
__device__ __forceinline__ void through_lengths(const T& team, const FpDeltaAdjoint& in,
                                                const DeltaPlaces& token, const real* d,
                                                real* along, const Give& give) {
  using Index = typename T::Index;
  const auto K = static_cast<Index>(in.K);
  team.row_sums(
      2 * in.H, K, [&](auto row, auto j) { return token.keys[row * K + j] * d[row * K + j]; },
      [&](auto row, real sum) { along[row] = normal_part(token.key_inverse[row], in.eps, sum); });
  team.sync();
  team.each(2 * in.H * K, [&](auto i) {
    const auto row = i / K;
    give(i, token.key_inverse[row] * (d[i] - along[row] * token.keys[i]));
  });
}

template <class Mixer>
__global__ void __launch_bounds__(Mixer::T::kSize) fp_delta_adjoint_kernel(const Step step) {
  constexpr int C = Mixer::C;
  using T = typename Mixer::T;
  extern __shared__ __align__(16) unsigned char bytes[];
  const FpDeltaAdjoint& in = step.in;
  const int64_t D = in.D, H = in.H, K = in.K, V = in.V, b = blockIdx.x, row = b * in.T + step.t,
                first = row * D, directions = in.P - 2 * H * K, states = b * D * K;
  const auto p = [&](int64_t j) { return in.p[row * in.P + j]; };
  real* const shared = reinterpret_cast<real*>(bytes);
  const T team(shared);
  const Mixer mixer(team, in.mixer, D, in.eps, p, shared + T::kSpace + step_reals(in), true);
  const auto channels = mixer.channels();
  real *const decay = shared + T::kSpace, *const along = decay + H;
  const DeltaPlaces token(in, along + 2 * H);
  real* const dk = along + 2 * H + DeltaPlaces::reals(in);
  real* const dq = dk + H * K;
  const Columns columns(D, dq + H * K);
  team.each(H, [&](auto head) { decay[head] = decay_of(in, row, head); });
  make_directions(
      team, in, [&](int64_t j) { return p(directions + j); }, token);
  team.sync();

  // The step at its solution: c, v before gate and norm, and what the state's cotangent gives.
  const real scale = query_scale(in);
  real gate[C]{}, keep[C]{}, beta[C]{}, c[C]{}, at_dstate[C]{}, v[C];
  StepAtSolution<C> at{};
  fill_channels(channels, at.y, [&](int64_t d) { return in.y[first + d]; });
  each_column(channels, in, [&](int k, int d, int head, int column) {
    const real *const key = token.keys + head * K, *const query = token.queries + head * K;
    real at_key = 0, at_query = 0;
#pragma unroll 8
    for (int i = 0; i < K; ++i) {
      const int64_t place = states + column + i * V;
      const real h = step.states[place], dS = step.last ? real(0) : step.dstate[place];
      at_key += h * key[i];
      at_query += h * query[i];
      at_dstate[k] += dS * key[i];
    }
    gate[k] = in.z == nullptr ? real(1) : silu(in.z[first + d]);
    keep[k] = decay[head];
    beta[k] = in.beta[row * H + head];
    c[k] = beta[k] * (in.mixed[first + d] - keep[k] * at_key);
    at.value[k] = gate[k] * scale * (keep[k] * at_query + token.met[head] * c[k]);
    at.gain[k] = gate[k] * scale * beta[k] * token.met[head];
    at.dmixed[k] = beta[k] * at_dstate[k];
  });
  solve_back<false>(mixer, in, b, step.t, step.dprevious, at, v);

  // Back to the step before: through the norm, the state, and Q, keys and queries to y_{t-1}.
  through_norm<false>(channels, in, at.value, v);
  real dmixed[C]{};
  each_column(channels, in, [&](int k, int d, int head, int) {
    const real dv = scale * gate[k] * v[k], dc = at_dstate[k] + token.met[head] * dv;
    dmixed[k] = beta[k] * dc;
    columns.c[d] = c[k];
    columns.dv[d] = dv;
    columns.du[d] = -keep[k] * dmixed[k];
  });
  team.sync();
  team.row_sums(
      H, V, [&](auto head, auto j) { return columns.c[head * V + j] * columns.dv[head * V + j]; },
      [&](auto head, real sum) { along[head] = sum; });
  team.sync();
  through_state(team, step, b, token, decay, columns, along, dk, dq);
  if (in.weight_y == nullptr || step.t == 0) return;
  real e[C];
  fill_channels(channels, e, [&](int64_t d) { return in.x[first + d] - in.y[first + d]; });
  const auto give = [&](int64_t j, real dp) { step.dp[b * in.P + j] = dp; };
  mixer.gradient(in.eps, p, e, dmixed, give);
  through_lengths(team, in, token, dk, along,
                  [&](int64_t j, real dp) { give(directions + j, dp); });
}

template <class Start>
void with_kernel(const FpDeltaAdjoint& in, const Start& start_kernel) {
  with_mixer(in.mixer, in.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    const int64_t reals = Mixer::T::kSpace + step_reals(in) + Mixer::space(in.mixer, true);
    start_kernel(
        type,
        Grid{.blocks = in.B, .threads = Mixer::T::kSize, .shared_bytes = reals * sizeof(real)});
  });
}

// The states before each chunk.
std::vector<Tensor> chunk_starts(Cuda cuda, const FpDeltaAdjoint& in, int64_t chunk) {
  std::vector<Tensor> starts(1);
  const Tensor between(cuda.context, {in.B, in.H, in.K, in.V});
  for (int64_t begin = 0; begin + chunk < in.T; begin += chunk) {
    const Tensor last(cuda.context, between.shape());
    make_states(cuda, {.in = in,
                       .begin = begin,
                       .end = begin + chunk,
                       .from = begin == 0 ? in.state : starts.back().data(),
                       .all = between.data(),
                       .last = last.data()});
    starts.push_back(last);
  }
  return starts;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda cuda, const FpDeltaAdjoint& args) {
  bool fits = fits_a_team(args.mixer, args.D);
  if (fits)
    with_kernel(args, [&](auto, const Grid& grid) {
      fits = gpu(cuda).forms.fit(static_cast<int64_t>(grid.shared_bytes));
    });
  return fits;
}

void run(Cuda cuda, const FpDeltaAdjoint& args) {
  const int64_t states = args.B * args.D * args.K;
  if (states * args.T == 0) return;
  const int64_t chunk = std::clamp<int64_t>(kStatesAtOnce / states, 1, args.T);
  const std::vector<Tensor> starts = chunk_starts(cuda, args, chunk);
  const Tensor all(cuda.context, {chunk, states}), dstate(cuda.context, {states});
  const Tensor dprevious(cuda.context, {args.B, args.D});
  const Tensor dp = zeros(cuda.context, {args.B, args.P});  // some of p may mean nothing
  for (int64_t i = static_cast<int64_t>(starts.size()) - 1; i >= 0; --i) {
    const int64_t begin = i * chunk, end = std::min(args.T, begin + chunk);
    make_states(cuda, {.in = args,
                       .begin = begin,
                       .end = end,
                       .from = i == 0 ? args.state : starts[i].data(),
                       .all = all.data(),
                       .last = nullptr});
    for (int64_t t = end - 1; t >= begin; --t) {
      const bool last = t == args.T - 1, sees_y = args.weight_y != nullptr;
      const Step step{.in = args,
                      .t = t,
                      .states = all.data() + (t - begin) * states,
                      .dstate = dstate.data(),
                      .dprevious = last || !sees_y ? nullptr : dprevious.data(),
                      .dp = dp.data(),
                      .last = last};
      with_kernel(args, [&](auto type, const Grid& grid) {
        start(cuda, "fp_delta_adjoint", fp_delta_adjoint_kernel<typename decltype(type)::type>,
              grid, step);
      });
      if (t > 0 && sees_y) multiply_back(cuda, args, dp.data(), dprevious.data());
    }
  }
}

}  // namespace fprnn
