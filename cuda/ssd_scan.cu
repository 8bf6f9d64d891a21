// The SSD scan in chunks (ops/ssd_scan.md). A block takes a head of a sequence through time with its state in
// shared memory; eight warps divide each product. Sums of steps and channels (y) are tiles of 16 steps
// and 16 channels, one a warp; the weights W are tiles of 16 by 8, which come from the same rows of c.
//
// Not all shared memory of a multiprocessor is used for a second buffer: its other block works while one
// waits for a chunk, which is on its way to the second-level cache a chunk ahead.
#include <fprnn/cuda/ssd_scan.cuh>

namespace fprnn {

namespace cuda {
namespace {

template <int N>
struct alignas(16) SsdForwardRoom {
  real b[kSteps][N + 8], c[kSteps][N + 8];
  real state[kChannels][N + 8];
  real x[kSteps][kChannelStride];
  real weights[kSteps][kStepStride];
  SsdSteps steps;
};
static_assert(kDouble || sizeof(SsdForwardRoom<kSsdGpuStates>) <= kLeastBlockBytes);

// A warp's tile of weights, and of what the state that enters gives to y (without one: 0).
template <int N, bool kExact>
__device__ __forceinline__ void enter_chunk(SsdForwardRoom<N>& room, int steps, int channels,
                                            int columns, float (&y)[1][2][4]) {
  float sums[1][3][4]{};
  const Along<true> c{room.c[steps], N + 8}, state{room.state[channels], N + 8},
      b{room.b[columns], N + 8};
  add_product<kExact>(sums, 0, N / 8, c, Beside<16, Along<true>, Along<true>>{state, b});
  each_pair<1, 2>([&](int, int n, int half, int i, int) {
    const real in = room.steps.in[steps + i];
    unrolled<2>([&](int k) { y[0][n][2 * half + k] = in * sums[0][n][2 * half + k]; });
  });
  each_pair<1, 1>([&](int, int, int half, int i, int j) {
    Two two;
    unrolled<2>([&](int k) {
      const int t = steps + i, s = columns + j + k;
      two.v[k] = sums[0][2][2 * half + k] * (decay_between(room.steps, t, s) * room.steps.dt[s]);
    });
    *reinterpret_cast<Two*>(&room.weights[steps + i][columns + j]) = two;
  });
}

template <int N, bool kExact>
__global__ void __launch_bounds__(kSsdThreads, 2)
    ssd_scan_forward_kernel(const SsdScanForward args, const SsdPlan plan) {
  extern __shared__ __align__(16) unsigned char shared[];
  auto& room = *reinterpret_cast<SsdForwardRoom<N>*>(shared);
  const SsdBlock at(args, plan);
  const int steps = at.warp % 2 * 16, channels = at.warp / 2 * 16, columns = at.warp / 2 * 8;
  const bool keeps = args.checkpoints != nullptr;
  real skip[2][2];
  each_pair<1, 2>([&](int, int n, int, int, int j) {
    unrolled<2>([&](int k) { skip[n][k] = at.skip(channels + j + k); });
  });

  load_state<N>(at, args.h0, room.state[0]);
  for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) {
    const int64_t begin = chunk * kSteps;
    const int count = at.count(begin);
    fetch_channels(at, args.x, begin, count, room.x[0]);
    fetch_directions<N>(at, args.b, begin, count, room.b[0]);
    fetch_directions<N>(at, args.c, begin, count, room.c[0]);
    commit_async();
    prefetch_channels(at, args.x, begin + kSteps);
    if (at.warp == 0) make_ssd_steps(at, begin, room.steps);
    wait_async<0>();
    __syncthreads();

    float y[1][2][4];
    enter_chunk<N, kExact>(room, steps, channels, columns, y);
    __syncthreads();

    if (channels < args.P) {
      add_product<kExact>(y, 0, steps / 8 + 2, Along<false>{room.weights[steps], kStepStride},
                          Down{&room.x[0][channels], kChannelStride});
      each_pair<1, 2>([&](int, int n, int half, int i, int j) {
        const int t = steps + i, p = channels + j;
        if (t >= count) return;
        const real* x = &room.x[t][p];
        store_two(args.y + at.step(begin + t) * args.P, p, args.P, plan.channel_pairs,
                  y[0][n][2 * half] + skip[n][0] * x[0], y[0][n][2 * half + 1] + skip[n][1] * x[1]);
      });
    }
    real* const before = keeps && chunk > 0 ? at.checkpoint(chunk) : nullptr;
    update_state<N, kExact>(at, room.steps, room.x[0], room.steps.weight, room.b[0], room.state[0],
                            [&](int p, int n, const Two& two) {
                              if (before != nullptr && p < args.P)
                                store_two(before + p * args.N, n, args.N, plan.state_pairs,
                                          two.v[0], two.v[1]);
                            });
    __syncthreads();
  }
  store_state<N>(at, room.state[0], args.state);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const SsdScanForward& args) {
  return !kDouble && !args.negative && args.P <= kSsdGpuChannels && args.N <= kSsdGpuStates;
}

void run(Cuda cuda, const SsdScanForward& args) {
  const SsdPlan plan = plan_ssd(args, quads_aligned(args.y), true);
  with_ssd_kernel(cuda, args, [&](auto states, auto exact) {
    start(cuda, "ssd_scan_forward", ssd_scan_forward_kernel<states(), exact()>,
          {.blocks = args.B * args.H,
           .threads = kSsdThreads,
           .shared_bytes = sizeof(SsdForwardRoom<states()>)},
          args, plan);
  });
}

}  // namespace fprnn
