// One thread takes neighbouring channels of a step (ops/fp_mamba_gate.h).
#include <fprnn/core/vector.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/elementwise_functions.h>
#include <fprnn/ops/fp_mamba_gate.h>

namespace fprnn {

namespace cuda {
namespace {

// Pack i of (B, T, D / W): what of the past belongs to it, which is at a step before or, at the first, in
// a matrix of its own.
template <int W>
struct GatePlace {
  int64_t row, t, column, b, D;
  __device__ GatePlace(const FpMambaGateForward& in, int64_t i)
      : row(i / (in.D / W)), t(row % in.T), b(row / in.T), D(in.D / W) {
    column = i - row * D;
  }
  template <class Real>
  __device__ auto before(Real* all, Real* first) const -> decltype(packs<W>(all)) {
    if (t > 0) return packs<W>(all) + (row - 1) * D + column;
    return first == nullptr ? nullptr : packs<W>(first) + b * D + column;
  }
};

template <int W>
__device__ __forceinline__ Pack<W> gate_argument(const FpMambaGateForward& in,
                                                 const GatePlace<W>& at, int64_t i) {
  Pack<W> pre = packs<W>(in.z)[i];
  if (const Pack<W>* past = at.before(in.projected_y, in.projected_previous)) {
    const Pack<W> more = *past;
    unrolled<W>([&](int j) { pre.v[j] += more.v[j]; });
  }
  return pre;
}

template <int W>
struct GateForward {
  FpMambaGateForward in;
  __device__ void operator()(int64_t i) const {
    const GatePlace<W> at(in, i);
    const Pack<W> pre = gate_argument(in, at, i);
    Pack<W> out = packs<W>(in.y)[i];
    unrolled<W>([&](int j) { out.v[j] *= Silu().value(pre.v[j]); });
    packs<W>(in.out)[i] = out;
  }
};

// No step makes the last row of dprojected_y: the last one clears it.
template <int W>
struct GateBackward {
  FpMambaGateBackward args;
  __device__ void operator()(int64_t i) const {
    const FpMambaGateForward& in = args.forward;
    const GatePlace<W> at(in, i);
    const Pack<W> pre = gate_argument(in, at, i), y = packs<W>(in.y)[i];
    Pack<W> dz = packs<W>(args.dout)[i], dy = dz;
    unrolled<W>([&](int j) {
      dz.v[j] *= y.v[j] * Silu().slope(pre.v[j]);
      dy.v[j] *= Silu().value(pre.v[j]);
    });
    packs<W>(args.dz)[i] = dz;
    packs<W>(args.dy)[i] = dy;
    if (Pack<W>* past = at.before(args.dprojected_y, args.dprojected_previous)) *past = dz;
    if (at.t == in.T - 1) packs<W>(args.dprojected_y)[i] = {};
  }
};

template <template <int> class Body, class Args>
void for_packs(Cuda cuda, std::string_view name, const FpMambaGateForward& in, bool aligned,
               const Args& args) {
  with_width(in.D, aligned, [&](auto width) {
    for_each(cuda, name, in.B * in.T * in.D / width, Body<width>{args});
  });
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const FpMambaGateForward&) { return true; }

void run(Cuda cuda, const FpMambaGateForward& args) {
  for_packs<GateForward>(
      cuda, "fp_mamba_gate_forward", args,
      quads_aligned(args.z, args.projected_y, args.projected_previous, args.y, args.out), args);
}

void run(Cuda cuda, const FpMambaGateBackward& args) {
  const FpMambaGateForward& in = args.forward;
  if (in.T == 0 && args.dprojected_previous != nullptr)
    run(cuda, Fill{.out = args.dprojected_previous, .count = in.B * in.D, .value = 0});
  for_packs<GateBackward>(
      cuda, "fp_mamba_gate_backward", in,
      quads_aligned(in.z, in.projected_y, in.projected_previous, in.y, args.dout) &&
          quads_aligned(args.dz, args.dprojected_y, args.dprojected_previous, args.dy),
      args);
}

}  // namespace fprnn
