// The first-order scan where no boxes are (scan.cu): a warp takes 32 columns, a row of 128 bytes, through
// time with one state a lane in a register; its inputs come through a ring in shared memory, and
// what it computes goes from registers straight to memory. Cost: 12 bytes an element forward and 20
// backward.
//
// Where columns are few, one warp for 32 of them leaves most of the GPU idle. Then time is split
// into pieces: a first kernel finds each piece's product of a and what it makes of a state of 0, a
// second carries the state from piece to piece, and the scan proper starts each piece from its own
// state. That reads a and b (or dh) twice, 20 and 28 bytes an element.
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/scan_ring.cuh>

#include <type_traits>

namespace fprnn::cuda {

namespace {

// Warps whose registers must fit on a multiprocessor: with few stages their rings do. 8.6 and 8.7
// take 16 blocks, 8.9 and all from 11.0 on 24, the others 32.
#if defined(__CUDA_ARCH__) && \
    ((__CUDA_ARCH__ > 800 && __CUDA_ARCH__ < 900) || __CUDA_ARCH__ >= 1100)
constexpr int kMostBlocks = 16;
#else
constexpr int kMostBlocks = 32;
#endif
template <int Stages>
constexpr int kResident = Stages > 4 ? 8
                          : kDouble  ? 16
                                     : kMostBlocks;

// A source of two arrays.
__device__ __forceinline__ auto of_two(const real* first, const real* second) {
  return [=](int array, int64_t i, int64_t, int64_t) {
    return ScanFrom{(array == 0 ? first : second) + i, true};
  };
}

template <int Stages>
__global__ void __launch_bounds__(kWarp, kResident<Stages>)
    scan_forward_kernel(ScanForward args, ScanPlan plan, const real* starts) {
  extern __shared__ Quad ring[];
  const ScanShare share(plan);
  const int64_t column = share.column + threadIdx.x;
  const bool inside = column < plan.columns;
  const real* before = starts != nullptr ? starts + share.piece * plan.columns : args.h0;
  real state = inside && before != nullptr ? before[column] : real(0);
  real* h = args.h + share.first(plan, column);
  stream_scan<2, Stages>(plan, share, ring[0].v, of_two(args.a, args.b), [&](const real(&x)[2]) {
    state = x[0] * state + x[1];
    if (inside) __stcs(h, state);
    h += share.stride;
  });
}

// The carry is a_{t+1} g_{t+1}, with t + 1 the step processed before. Array 1 is h at the step processed
// after, which is h0 for the last.
template <int Stages>
__global__ void __launch_bounds__(kWarp, kResident<Stages>)
    scan_backward_kernel(ScanBackward args, ScanPlan plan, const real* starts) {
  extern __shared__ Quad ring[];
  const ScanShare share(plan);
  const int64_t column = share.column + threadIdx.x;
  const bool inside = column < plan.columns;
  real carry = inside && starts != nullptr ? starts[share.piece * plan.columns + column] : real(0);
  real* da = args.da + share.first(plan, column);
  real* db = args.db + share.first(plan, column);
  const int64_t last = plan.T - 1 - share.begin;
  stream_scan<3, Stages>(
      plan, share, ring[0].v,
      [&](int array, int64_t i, int64_t s, int64_t column) {
        if (array != 1) return ScanFrom{(array == 0 ? args.a : args.dh) + i, true};
        if (s != last) return ScanFrom{args.h + i + share.stride, true};
        return ScanFrom{args.h0 + column, args.h0 != nullptr};
      },
      [&](const real(&x)[3]) {
        const real g = x[2] + carry;
        carry = x[0] * g;
        if (inside) {
          __stcs(db, g);
          __stcs(da, g * x[1]);
        }
        db += share.stride;
        da += share.stride;
      });
  if (inside && share.piece == plan.pieces - 1) args.dh0[column] = carry;
}

// What a piece makes of the state before it: product * state + end. (pieces, columns) each. Backward's
// carry takes b before the factor: end = a (end + b).
template <int Stages, bool Backward>
__global__ void __launch_bounds__(kWarp, kResident<Stages>)
    scan_piece_kernel(const real* a, const real* b, ScanPlan plan, real* products, real* ends) {
  extern __shared__ Quad ring[];
  const ScanShare share(plan);
  const int64_t column = share.column + threadIdx.x;
  real product = 1, end = 0;
  stream_scan<2, Stages>(plan, share, ring[0].v, of_two(a, b), [&](const real(&x)[2]) {
    product *= x[0];
    end = Backward ? x[0] * (end + x[1]) : x[0] * end + x[1];
  });
  if (column >= plan.columns) return;
  products[share.piece * plan.columns + column] = product;
  ends[share.piece * plan.columns + column] = end;
}

// starts (pieces, columns) <- the state before each piece, the first being h0 or 0. The pieces are
// this scan's steps. A state of 0 contributes nothing even where the product has overflown.
template <int Stages>
__global__ void __launch_bounds__(kWarp, kResident<Stages>)
    scan_carry_kernel(const real* products, const real* ends, const real* h0, ScanPlan plan,
                      real* starts) {
  extern __shared__ Quad ring[];
  const ScanShare share(plan);
  const int64_t column = share.column + threadIdx.x;
  const bool inside = column < plan.columns;
  real state = inside && h0 != nullptr ? h0[column] : real(0);
  real* to = starts + column;
  stream_scan<2, Stages>(plan, share, ring[0].v, of_two(products, ends), [&](const real(&x)[2]) {
    if (inside) *to = state;
    to += plan.columns;
    state = state == 0 ? x[1] : x[0] * state + x[1];
  });
}

// As many stages as keep the GPU's memory busy, but no more than time has: where warps are many, each
// needs fewer, and more of them must fit.
int ring_stages(const ScanPlan& plan, int arrays) {
  constexpr int64_t kRoom = 160 << 10;  // bytes of rings on a multiprocessor
  const int64_t stage = arrays * kScanSteps * kWarp * sizeof(real);
  const int64_t warps =
      std::clamp<int64_t>(ceil_div(plan.units * plan.pieces, kMultiprocessors), 1, 32);
  int stages = 16;
  while (stages > 2 && (stages * warps * stage > kRoom || stages / 2 * kScanSteps >= plan.length))
    stages /= 2;
  return stages;
}

constexpr int64_t kShortest = 128, kFewest = 4;  // steps of a piece, pieces

ScanPlan plan_scan(int64_t B, int64_t T, int64_t D, bool descending, int arrays, bool aligned) {
  constexpr int64_t kWarps = 4 * kMultiprocessors;  // wanted of a split
  ScanPlan plan{.T = T,
                .D = D,
                .columns = B * D,
                .units = ceil_div(B * D, kWarp),
                .descending = descending,
                .quads = aligned && D % Quad::kCount == 0};
  if (ring_splits_time(B, T, D)) {
    const int64_t pieces = std::min(T / kShortest, ceil_div(kWarps, plan.units));
    plan.length = ceil_div(ceil_div(T, pieces), kScanSteps) * kScanSteps;
    plan.pieces = ceil_div(T, plan.length);
  }
  plan.stages = ring_stages(plan, arrays);
  return plan;
}

// body(stages) with the number as a type.
template <int Stages = 16, class Body>
void with_stages(int stages, const Body& body) {
  if constexpr (Stages > 2) {
    if (stages < Stages) return with_stages<Stages / 2>(stages, body);
  }
  body(std::integral_constant<int, Stages>());
}

// One warp a block, so that the blocks spread evenly over the multiprocessors.
Grid scan_grid(const ScanPlan& plan, int arrays) {
  return {.blocks = plan.units * plan.pieces,
          .threads = kWarp,
          .shared_bytes = plan.stages * arrays * kScanSteps * kWarp * sizeof(real)};
}

// The states before each piece, (pieces, columns), where time is split; else an empty tensor.
template <bool Backward>
Tensor piece_starts(Cuda cuda, const real* a, const real* b, const real* h0, ScanPlan plan) {
  if (plan.pieces == 1) return {};
  const Shape shape{plan.pieces, plan.columns};
  const Tensor products(cuda.context, shape), ends(cuda.context, shape);
  const Tensor starts(cuda.context, shape);
  plan.stages = ring_stages(plan, 2);
  with_stages(plan.stages, [&](auto stages) {
    start(cuda, "scan_piece", scan_piece_kernel<stages(), Backward>, scan_grid(plan, 2), a, b, plan,
          products.data(), ends.data());
  });
  ScanPlan over{.T = plan.pieces,
                .D = plan.columns,
                .columns = plan.columns,
                .units = plan.units,
                .quads = plan.columns % Quad::kCount == 0};
  over.stages = ring_stages(over, 2);
  with_stages(over.stages, [&](auto stages) {
    start(cuda, "scan_carry", scan_carry_kernel<stages()>, scan_grid(over, 2), products.data(),
          ends.data(), h0, over, starts.data());
  });
  return starts;
}

}  // namespace

// Time is whole wherever every other multiprocessor has a warp of its own, which moves as many bytes as
// the split moves with its second reading; and where it is too short to pay for two more kernels.
bool ring_splits_time(int64_t B, int64_t T, int64_t D) {
  const int64_t units = ceil_div(B * D, kWarp);
  return units > 0 && units * 2 <= kMultiprocessors && T >= kFewest * kShortest;
}

void scan_in_ring(Cuda cuda, const ScanForward& args) {
  if (args.T == 0) return;
  const ScanPlan plan =
      plan_scan(args.B, args.T, args.D, args.reverse, 2, quads_aligned(args.a, args.b));
  const Tensor starts = piece_starts<false>(cuda, args.a, args.b, args.h0, plan);
  with_stages(plan.stages, [&](auto stages) {
    start(cuda, "scan_forward", scan_forward_kernel<stages()>, scan_grid(plan, 2), args, plan,
          starts.defined() ? starts.data() : nullptr);
  });
}

void scan_in_ring(Cuda cuda, const ScanBackward& args) {
  const ScanPlan plan = plan_scan(args.B, args.T, args.D, !args.reverse, 3,
                                  quads_aligned(args.a, args.h, args.h0, args.dh));
  const Tensor starts = piece_starts<true>(cuda, args.a, args.dh, nullptr, plan);
  with_stages(plan.stages, [&](auto stages) {
    start(cuda, "scan_backward", scan_backward_kernel<stages()>, scan_grid(plan, 3), args, plan,
          starts.defined() ? starts.data() : nullptr);
  });
}

}  // namespace fprnn::cuda
