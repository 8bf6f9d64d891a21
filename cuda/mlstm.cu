// The mLSTM in chunks, forward (ops/mlstm.md, "On a GPU"): the stabiliser m of all steps, then the state before
// every chunk, then what each chunk gives.
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/mlstm_chunk.cuh>
#include <fprnn/cuda/mlstm_states.cuh>

namespace fprnn {

namespace cuda {
namespace {

using namespace mlstm_chunks;

// A warp a head, a step after the other: each lane goes through all of them and has the gates of one of 32.
__global__ void __launch_bounds__(kWarp) mlstm_stabiliser_kernel(const Work work) {
  const Head at(work, blockIdx.x);
  const MlstmBackward& args = work.args;
  const int lane = lane_of();
  struct Raw {
    real input = 0, forget = 0;
  };
  const auto load = [&](int64_t begin) {
    Raw raw;
    if (begin + lane < args.T) {
      const int64_t step = at.step(begin + lane);
      raw = {args.igate[step], args.fgate[step]};
    }
    return raw;
  };
  real m = at.first_m();
  Raw next = load(0);
#pragma unroll 1
  for (int64_t begin = 0; begin < args.T; begin += kWarp) {
    const Raw raw = next;
    next = load(begin + kWarp);
    const int count = static_cast<int>(::min(args.T - begin, int64_t{kWarp}));
    const real log_forget = log_sigmoid(raw.forget).value;
    real own = 0;
    unrolled<kWarp>([&](int i) {
      const real keep = __shfl_sync(kAllLanes, log_forget, i) + m;
      const real in = __shfl_sync(kAllLanes, raw.input, i);
      if (i < count) m = keep > in ? keep : in;
      if (i == lane) own = m;
    });
    if (lane < count) args.steps[at.step(begin + lane)] = own;
  }
  if (lane == 0) args.m[at.unit] = m;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const MlstmForward& args) { return !kDouble && args.d <= kMlstmGpuWidth; }

void run(Cuda cuda, const MlstmForward& args) {
  MlstmBackward all{args};
  Tensor steps, checkpoints;
  if (all.steps == nullptr) {
    steps = Tensor(cuda.context, Shape{2, args.B, args.T, args.H});
    all.steps = steps.data();
  }
  if (all.checkpoints == nullptr && args.T > kSteps) {
    checkpoints =
        Tensor(cuda.context, Shape{args.B, args.H, ceil_div(args.T, kSteps), args.d + 1, args.d});
    all.checkpoints = checkpoints.data();
  }
  const Work work = work_of(all);
  const bool exact = gpu(cuda).matmul_precision == MatmulPrecision::fp32;
  start(cuda, "mlstm_stabiliser", mlstm_stabiliser_kernel,
        {.blocks = args.B * args.H, .threads = kWarp}, work);
  run_states<false>(cuda, "mlstm_states", work, exact);
  run_chunks<Of::h>(cuda, "mlstm_forward", work, exact);
}

}  // namespace fprnn
