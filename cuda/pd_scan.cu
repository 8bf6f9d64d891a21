// A warp takes a sequence, a lane N / 32 of its states; what a step reads is loaded a step ahead. The states
// that others read are in shared memory. Each candidate has the set of the slots that chose it as
// bits, and adds what they bring in their order, as the CPU does.
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/unroll.cuh>
#include <fprnn/ops/pd_scan.h>

namespace fprnn {

namespace cuda {
namespace {

struct Complex {
  real re, im;
};
__device__ __forceinline__ Complex operator+(Complex x, Complex y) {
  return {x.re + y.re, x.im + y.im};
}
__device__ __forceinline__ Complex operator*(Complex x, Complex y) {
  return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
__device__ __forceinline__ Complex conj(Complex x) { return {x.re, -x.im}; }

// A lane's own of N states, lane, lane + 32, ..; 0 where there are no more.
template <int C>
struct OwnStates {
  Complex of[C];

  // row: (2 N).
  __device__ __forceinline__ void load(const real* row, int64_t N) {
    unrolled<C>([&](int i) {
      const int j = lane_of() + kWarp * i;
      of[i] = j < N ? Complex{row[j], row[N + j]} : Complex{0, 0};
    });
  }
  __device__ __forceinline__ void store(real* row, int64_t N) const {
    unrolled<C>([&](int i) {
      const int j = lane_of() + kWarp * i;
      if (j < N) {
        row[j] = of[i].re;
        row[N + j] = of[i].im;
      }
    });
  }
};
// And what they chose, a state that there is in any case.
template <int C>
struct OwnChoices {
  int of[C];

  __device__ __forceinline__ void load(const int32_t* row, int64_t N) {
    unrolled<C>([&](int i) {
      const int j = lane_of() + kWarp * i;
      of[i] = j < N ? row[j] : 0;
    });
  }
};

// States that all lanes read. gather and scatter end with a barrier, so that the next may write.
template <int C>
struct SharedStates {
  Complex states[C * kWarp];
  unsigned chosen_by[C][C * kWarp];  // bit l of [w][i]: slot 32 w + l chose candidate i

  __device__ __forceinline__ void put(const OwnStates<C>& x) {
    unrolled<C>([&](int i) { states[lane_of() + kWarp * i] = x.of[i]; });
  }
  // y_s = x_chosen(s).
  __device__ __forceinline__ OwnStates<C> gather(const OwnStates<C>& x,
                                                 const OwnChoices<C>& chosen) {
    put(x);
    __syncwarp();
    OwnStates<C> y;
    unrolled<C>([&](int i) { y.of[i] = states[chosen.of[i]]; });
    __syncwarp();
    return y;
  }
  // y_c + the sum of x_s over the slots s < N that chose c, in their order.
  __device__ __forceinline__ OwnStates<C> scatter(const OwnStates<C>& x,
                                                  const OwnChoices<C>& chosen, OwnStates<C> y,
                                                  int64_t N) {
    put(x);
    unrolled<C>(
        [&](int i) { unrolled<C>([&](int w) { chosen_by[w][lane_of() + kWarp * i] = 0; }); });
    __syncwarp();
    unrolled<C>([&](int w) {
      if (lane_of() + kWarp * w < N) atomicOr(&chosen_by[w][chosen.of[w]], 1u << lane_of());
    });
    __syncwarp();
    unrolled<C>([&](int i) {
      unrolled<C>([&](int w) {
        for (unsigned slots = chosen_by[w][lane_of() + kWarp * i]; slots != 0; slots &= slots - 1)
          y.of[i] = y.of[i] + states[kWarp * w + __ffs(static_cast<int>(slots)) - 1];
      });
    });
    __syncwarp();
    return y;
  }
};

template <int C, bool kColumn>
__global__ void __launch_bounds__(kWarp) pd_scan_forward_kernel(const PdScanForward args) {
  __shared__ SharedStates<C> shared;
  const int64_t N = args.N, begin = blockIdx.x * args.T, end = begin + args.T;
  OwnStates<C> h, d, b;
  OwnChoices<C> chosen;
  const auto load = [&](int64_t t) {
    d.load(args.d + t * 2 * N, N);
    b.load(args.b + t * 2 * N, N);
    chosen.load(args.chosen + t * N, N);
  };
  h.load(args.h0 + int64_t{blockIdx.x} * 2 * N, N);
  if (begin < end) load(begin);
  for (int64_t t = begin; t < end; ++t) {
    const OwnStates<C> d_now = d, b_now = b;
    const OwnChoices<C> chosen_now = chosen;
    if (t + 1 < end) load(t + 1);
    if constexpr (kColumn) {
      unrolled<C>([&](int i) { h.of[i] = d_now.of[i] * h.of[i]; });
      h = shared.scatter(h, chosen_now, b_now, N);
    } else {
      h = shared.gather(h, chosen_now);
      unrolled<C>([&](int i) { h.of[i] = d_now.of[i] * h.of[i] + b_now.of[i]; });
    }
    h.store(args.h + t * 2 * N, N);
  }
}

// What a step back reads.
template <int C>
struct StepBack {
  OwnStates<C> d, before, dh;
  OwnChoices<C> chosen;

  // The step t of all steps; first: of a sequence.
  __device__ __forceinline__ void load(const PdScanBackward& args, int64_t t, bool first) {
    const int64_t N = args.forward.N, at = t * 2 * N;
    d.load(args.forward.d + at, N);
    before.load(first ? args.forward.h0 + int64_t{blockIdx.x} * 2 * N : args.forward.h + at - 2 * N,
                N);
    dh.load(args.dh + at, N);
    chosen.load(args.forward.chosen + t * N, N);
  }
};

template <int C, bool kColumn>
__global__ void __launch_bounds__(kWarp) pd_scan_backward_kernel(const PdScanBackward args) {
  __shared__ SharedStates<C> shared;
  const int64_t N = args.forward.N, begin = blockIdx.x * args.forward.T,
                end = begin + args.forward.T;
  OwnStates<C> carried{}, z, dd, moved;
  StepBack<C> next;
  if (begin < end) next.load(args, end - 1, end - 1 == begin);
  for (int64_t t = end - 1; t >= begin; --t) {
    const StepBack<C> now = next;
    if (t > begin) next.load(args, t - 1, t - 1 == begin);
    unrolled<C>([&](int i) { z.of[i] = now.dh.of[i] + carried.of[i]; });
    const OwnStates<C> gathered = shared.gather(kColumn ? z : now.before, now.chosen);
    unrolled<C>([&](int i) {
      const Complex d = now.d.of[i], before = now.before.of[i];
      dd.of[i] = kColumn ? conj(before) * gathered.of[i] : conj(gathered.of[i]) * z.of[i];
      moved.of[i] = kColumn ? d * before : conj(d) * z.of[i];
      if (kColumn) carried.of[i] = conj(d) * gathered.of[i];
    });
    if constexpr (!kColumn) carried = shared.scatter(moved, now.chosen, {}, N);
    z.store(args.db + t * 2 * N, N);
    dd.store(args.dd + t * 2 * N, N);
    moved.store(args.moved + t * 2 * N, N);
  }
  carried.store(args.dh0 + int64_t{blockIdx.x} * 2 * N, N);
}

// visit(the states of a lane as a constant, whether P is one-hot in columns as another).
template <class Visit>
void with_forms(int64_t N, OneHot one_hot, const Visit& visit) {
  with_constant<1, 2, 4>(N <= kWarp       ? 1
                         : N <= 2 * kWarp ? 2
                                          : 4,
                         [&](auto C) {
                           if (one_hot == OneHot::column)
                             visit(C, std::true_type());
                           else
                             visit(C, std::false_type());
                         });
}

}  // namespace
}  // namespace cuda

void run(Cuda cuda, const PdSwap& args) {
  const int64_t N = args.N, K = args.K;
  cuda::for_each(cuda, "pd_swap", N * N * K, [=] __device__(int64_t i) {
    const int64_t row = i / K, k = i % K;
    args.to[i] = args.from[(row % N * N + row / N) * K + k];
  });
}

void run(Cuda cuda, const PdScanForward& args) {
  cuda::with_forms(args.N, args.one_hot, [&](auto C, auto column) {
    cuda::start(cuda, "pd_scan_forward", cuda::pd_scan_forward_kernel<C(), column()>,
                {.blocks = args.B, .threads = cuda::kWarp}, args);
  });
}

void run(Cuda cuda, const PdScanBackward& args) {
  const PdScanForward& in = args.forward;
  cuda::with_forms(in.N, in.one_hot, [&](auto C, auto column) {
    cuda::start(cuda, "pd_scan_backward", cuda::pd_scan_backward_kernel<C(), column()>,
                {.blocks = in.B, .threads = cuda::kWarp}, args);
  });
}

}  // namespace fprnn
