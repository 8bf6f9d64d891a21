// The first-order scan (ops/scan.md): a warp takes 64 columns, channels of one sequence, through time
// with two states a lane in registers. The copy engine brings what it reads and takes away what it
// computes, in boxes of some steps (box.cuh): results replace inputs in shared memory. Backward is
// the same from the end, with h read one step earlier. Cost: 12 bytes an element forward and 20
// backward, 2 and 3 flops: bound by memory.
//
// The ring of scan_ring.cuh, with stores from registers, reaches 87 and 82 % of a copy, boxes both ways 97
// and 93 (cuda/ladder). Sizes that the engine refuses, and few columns for long, take the ring.
#include <fprnn/cuda/box.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/scan_ring.cuh>
#include <fprnn/cuda/unroll.cuh>
#include <fprnn/ops/scan.h>

#include <type_traits>

namespace fprnn {

namespace cuda {
namespace {

// Columns of a lane, steps of a stage, and stages: 32 KB on their way to a warp forward and 48 backward.
// One column a lane where boxes of 64 would leave multiprocessors without any.
template <bool Backward, int Lane>
struct ScanStages {
  static constexpr int kArrays = Backward ? 3 : 2, kChannels = Lane * kWarp;
  static constexpr int kSteps = !Backward && Lane == 2 ? 8 : 16;
  static constexpr int kStages = Backward && Lane == 2 ? 4 : 8;
  static constexpr int kBox = kSteps * kChannels, kStage = kArrays * kBox;  // reals
};

struct ScanBoxes {
  int T, D, across;  // boxes abreast in a sequence
  int stages;        // no more than there are
};
template <bool Backward>
struct ScanMaps {
  CUtensorMap in[2 + Backward], out[1 + Backward];
  real* written[1 + Backward];  // what `out` describes
};

struct alignas(128) BoxRow {
  real v[kWarp];
};
template <int Lane>
struct alignas(Lane * sizeof(real)) Columns {
  real v[Lane];
};

// Forward a, b -> h in b's place; backward a, h, dh -> da in a's place, db in dh's.
template <bool Backward>
constexpr int place_of_output(int output) {
  return Backward ? 2 * output : 1;
}
template <bool Backward, int Lane>
__device__ __forceinline__ void scan_step(Columns<Lane> (&x)[2 + Backward], Columns<Lane>& state) {
  unrolled<Lane>([&](int i) {
    if constexpr (Backward) {
      const real g = x[2].v[i] + state.v[i];
      state.v[i] = x[0].v[i] * g;
      x[0].v[i] = g * x[1].v[i];
      x[2].v[i] = g;
    } else {
      x[1].v[i] = state.v[i] = x[0].v[i] * state.v[i] + x[1].v[i];
    }
  });
}

// A stage's steps, in registers eight at a time. Where it is the last backward, h of its last step is
// `before_last`, not in the array.
template <bool Backward, bool Descending, int Lane>
__device__ __forceinline__ void scan_stage(real* stage, Columns<Lane>& state, bool last,
                                           const Columns<Lane>& before_last) {
  using Of = ScanStages<Backward, Lane>;
  constexpr int kGroup = 8;
#pragma unroll
  for (int from = 0; from < Of::kSteps; from += kGroup) {
    const auto at = [&](int k, int array) {
      const int row = Descending ? Of::kSteps - 1 - from - k : from + k;
      real* const place = stage + array * Of::kBox + row * Of::kChannels + threadIdx.x * Lane;
      return reinterpret_cast<Columns<Lane>*>(place);
    };
    Columns<Lane> x[kGroup][Of::kArrays];
    unrolled<kGroup>(
        [&](int k) { unrolled<Of::kArrays>([&](int array) { x[k][array] = *at(k, array); }); });
    if (Backward && last && from + kGroup == Of::kSteps) x[kGroup - 1][1] = before_last;
#pragma unroll
    for (int k = 0; k < kGroup; ++k) {
      scan_step<Backward>(x[k], state);
#pragma unroll
      for (int output = 0; output <= Backward; ++output) {
        constexpr auto place = place_of_output<Backward>;
        *at(k, place(output)) = x[k][place(output)];
      }
    }
  }
}

// Steps are numbered in the order of processing. Forward the first stage begins with step 0, and what the
// last has too much is not written; backward the last stage ends with the last step, and what the
// first has too much is zeros, which leave the carry 0.
//
// Thread 0 asks for all. The stage of chunk c is filled again once c's results have been read out of it,
// which is waited for one chunk later.
template <bool Backward, bool Descending, int Lane>
__device__ __forceinline__ void scan_boxes(const ScanMaps<Backward>& maps, const ScanBoxes& plan,
                                           const real* h0, real* dh0) {
  using Of = ScanStages<Backward, Lane>;
  constexpr int kSteps = Of::kSteps;
  extern __shared__ BoxRow rows[];
  real* const ring = rows[0].v;
  auto* const full = reinterpret_cast<BoxBarrier*>(ring + plan.stages * Of::kStage);
  const bool asks = threadIdx.x == 0;
  const int sequence = blockIdx.x / plan.across, channel = blockIdx.x % plan.across * Of::kChannels;
  const int count = (plan.T - 1) / kSteps + 1, early = Backward ? count * kSteps - plan.T : 0;
  const auto place = [&](int chunk, int later) {
    const int step = chunk * kSteps - early;
    return BoxPlace{channel, Descending ? plan.T - kSteps - step - later : step + later, sequence};
  };
  const auto fetch = [&](int chunk, int slot) {
    full[slot].expect(Of::kStage * sizeof(real));
    unrolled<Of::kArrays>([&](int array) {
      full[slot].read(ring + slot * Of::kStage + array * Of::kBox, maps.in[array],
                      place(chunk, Backward && array == 1));
    });
  };
  if (asks) {
    for (int slot = 0; slot < plan.stages; ++slot) full[slot].open();
    for (int slot = 0; slot < plan.stages; ++slot) fetch(slot, slot);
  }
  __syncwarp();

  const int lane = threadIdx.x * Lane;
  const bool inside = channel + lane < plan.D;
  const int64_t column = int64_t{sequence} * plan.D + channel + lane;
  Columns<Lane> start{}, state{};
  if (inside && h0 != nullptr) unrolled<Lane>([&](int i) { start.v[i] = h0[column + i]; });
  if constexpr (!Backward) state = start;

  // A lane's own columns of a box that begins before the array, which the engine must not write.
  const auto write_rows = [&](const real* stage, const BoxPlace& at) {
    if (!inside) return;
    for (int output = 0; output <= Backward; ++output)
      for (int row = -at.step; row < kSteps; ++row) {
        const int64_t token = int64_t{sequence} * plan.T + at.step + row;
        const real* const from =
            stage + place_of_output<Backward>(output) * Of::kBox + row * Of::kChannels + lane;
        *reinterpret_cast<Columns<Lane>*>(maps.written[output] + token * plan.D + channel + lane) =
            *reinterpret_cast<const Columns<Lane>*>(from);
      }
  };
  unsigned phase = 0;
  for (int chunk = 0, slot = 0, before = 0; chunk < count; ++chunk) {
    full[slot].wait(phase);
    real* const stage = ring + slot * Of::kStage;
    scan_stage<Backward, Descending>(stage, state, chunk == count - 1, start);
    const BoxPlace at = place(chunk, 0);
    if (at.step < 0) write_rows(stage, at);
    show_boxes();
    __syncwarp();
    if (asks) {
#pragma unroll
      for (int output = 0; output <= Backward && at.step >= 0; ++output)
        write_box(maps.out[output], stage + place_of_output<Backward>(output) * Of::kBox, at);
      commit_boxes();
      if (chunk > 0 && chunk - 1 + plan.stages < count) {
        wait_read<1>();
        fetch(chunk - 1 + plan.stages, before);
      }
    }
    before = slot;
    if (++slot == plan.stages) slot = 0, phase ^= 1;
  }
  if (asks) wait_written();
  if constexpr (Backward)
    if (inside) unrolled<Lane>([&](int i) { dh0[column + i] = state.v[i]; });
}
template <bool Backward, bool Descending, int Lane>
__global__ void __launch_bounds__(kWarp)
    scan_boxes_kernel(const __grid_constant__ ScanMaps<Backward> maps, ScanBoxes plan,
                      const real* h0, real* dh0) {
  if constexpr (kHasBoxes) scan_boxes<Backward, Descending, Lane>(maps, plan, h0, dh0);
}

int64_t boxes_of(int64_t B, int64_t D, int channels) { return B * ceil_div(D, channels); }

// Whether boxes can be had, and do better than the ring.
template <class... Pointers>
bool boxes_suit(Cuda cuda, int64_t B, int64_t T, int64_t D, const Pointers*... arrays) {
  constexpr int kSmallest = kWarp, kLongest = 16;  // channels and steps of a box
  const BoxSizes sizes{.B = B, .T = T, .D = D, .channels = kSmallest, .steps = kLongest};
  return !kDouble && gpu(cuda).forms.boxes && boxes_fit(sizes) && quads_aligned(arrays...) &&
         !ring_splits_time(B, T, D) && boxes_of(B, D, kWarp) <= INT32_MAX;
}

template <bool Backward, bool Descending, int Lane>
void start_boxes(Cuda cuda, const real* const (&in)[2 + Backward], real* const (&out)[1 + Backward],
                 int64_t B, int64_t T, int64_t D, const real* h0, real* dh0) {
  using Of = ScanStages<Backward, Lane>;
  const BoxSizes sizes{.B = B, .T = T, .D = D, .channels = Of::kChannels, .steps = Of::kSteps};
  ScanMaps<Backward> maps;
  for (int i = 0; i < 2 + Backward; ++i) maps.in[i] = box_map(in[i], sizes);
  for (int i = 0; i < 1 + Backward; ++i) {
    maps.out[i] = box_map(out[i], sizes);
    maps.written[i] = out[i];
  }
  const int64_t stages = std::min<int64_t>(Of::kStages, ceil_div(T, Of::kSteps));
  const ScanBoxes plan{.T = static_cast<int>(T),
                       .D = static_cast<int>(D),
                       .across = static_cast<int>(ceil_div(D, Of::kChannels)),
                       .stages = static_cast<int>(stages)};
  start(cuda, Backward ? "scan_backward" : "scan_forward",
        scan_boxes_kernel<Backward, Descending, Lane>,
        {.blocks = boxes_of(B, D, Of::kChannels),
         .threads = kWarp,
         .shared_bytes = stages * (Of::kStage * sizeof(real) + sizeof(BoxBarrier))},
        maps, plan, h0, dh0);
}

// body(descending, lane), both as types.
template <class Body>
void with_boxes(int64_t B, int64_t D, bool descending, const Body& body) {
  const auto with_lane = [&](auto lane) {
    descending ? body(std::true_type(), lane) : body(std::false_type(), lane);
  };
  if (D >= 2 * kWarp && boxes_of(B, D, 2 * kWarp) >= kMultiprocessors)
    with_lane(std::integral_constant<int, 2>());
  else
    with_lane(std::integral_constant<int, 1>());
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const ScanForward& args) {
  const auto& [a, b, h0, h, B, T, D, reverse] = args;
  if (!boxes_suit(cuda, B, T, D, a, b, h)) return scan_in_ring(cuda, args);
  with_boxes(B, D, reverse, [&](auto descending, auto lane) {
    start_boxes<false, descending(), lane()>(cuda, {a, b}, {h}, B, T, D, h0, nullptr);
  });
}

void run(Cuda cuda, const ScanBackward& args) {
  const auto& [a, b, h0, h, B, T, D, reverse] = static_cast<const ScanForward&>(args);
  if (!boxes_suit(cuda, B, T, D, a, h, args.dh, args.da, args.db)) return scan_in_ring(cuda, args);
  with_boxes(B, D, !reverse, [&](auto descending, auto lane) {
    start_boxes<true, descending(), lane()>(cuda, {a, h, args.dh}, {args.da, args.db}, B, T, D, h0,
                                            args.dh0);
  });
}

}  // namespace fprnn
