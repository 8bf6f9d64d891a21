// The sLSTM as a cell of cuda/gate_sweep.cuh.
#include <fprnn/cuda/gate_steps.cuh>
#include <fprnn/ops/slstm.h>
#include <fprnn/ops/slstm_cell.h>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kSlstmGates = 4;
constexpr int kSlstmC = 5, kSlstmN = 6;  // of what is saved

struct SlstmForwardCell {
  static constexpr int kGates = kSlstmGates;
  SlstmForward args;
  using State = SlstmMemory<real>;

  FPRNN_HOST_DEVICE GateSizes sizes() const { return {args.B, args.T, args.H, args.d}; }
  __device__ __forceinline__ State first(const GateChannel& at) const {
    if (args.h0 == nullptr) return {0, 0, kSlstmNothing};
    return {args.c0[at.state()], args.n0[at.state()], args.m0[at.state()]};
  }
  __device__ __forceinline__ real step(const GateChannel& at, int64_t t, const real (&x)[kGates],
                                       const real (&s)[kGates], State& state, bool writes) const {
    real a[kGates], saved[kSlstmSaved];
    unrolled<kGates>([&](int g) { a[g] = x[g] + s[g]; });
    const real h = slstm_step(a, state, saved);
    if (writes) {
      args.h[at.at(t)] = h;
      if (args.saved != nullptr)
        unrolled<kSlstmSaved>([&](int k) { args.saved[at.at(t, kSlstmSaved, k)] = saved[k]; });
    }
    return h;
  }
  __device__ __forceinline__ void finish(const GateChannel& at, const State& state) const {
    args.c[at.state()] = state.c;
    args.n[at.state()] = state.n;
    args.m[at.state()] = state.m;
  }
};

struct SlstmBackwardCell {
  static constexpr int kGates = kSlstmGates;
  SlstmBackward args;
  using Carry = SlstmCarried<real>;
  struct Loaded {
    real saved[kSlstmSaved], c, n, dh;
  };

  FPRNN_HOST_DEVICE GateSizes sizes() const {
    return {args.forward.B, args.forward.T, args.forward.H, args.forward.d};
  }
  // m moves c and n together and never h: its cotangent is that of the state that is handed out.
  __device__ __forceinline__ Carry last(const GateChannel& at) const {
    const real dc = given(args.dc, at.state()), dn = given(args.dn, at.state());
    return {0, dc, dn,
            given(args.dm, at.state()) - dc * args.forward.c[at.state()] -
                dn * args.forward.n[at.state()]};
  }
  __device__ __forceinline__ real saved(const GateChannel& at, int64_t t, int k) const {
    return args.forward.saved[at.at(t, kSlstmSaved, k)];
  }
  __device__ __forceinline__ Loaded load(const GateChannel& at, int64_t t) const {
    Loaded of;
    unrolled<kSlstmSaved>([&](int k) { of.saved[k] = saved(at, t, k); });
    of.c = t > 0 ? saved(at, t - 1, kSlstmC) : given(args.forward.c0, at.state());
    of.n = t > 0 ? saved(at, t - 1, kSlstmN) : given(args.forward.n0, at.state());
    of.dh = args.dh[at.at(t)];
    return of;
  }
  template <class Visit>
  __device__ __forceinline__ void each_read(const GateChannel& at, int64_t t,
                                            const Visit& visit) const {
    unrolled<kSlstmSaved>([&](int k) { visit(args.forward.saved + at.at(t, kSlstmSaved, k)); });
    visit(args.dh + at.at(t));
  }
  __device__ __forceinline__ void step(const GateChannel& at, int64_t t, const Loaded& of,
                                       Carry& carry, real (&da)[kGates], bool writes) const {
    carry.dh += of.dh;
    slstm_cotangents(of.saved, of.c, of.n, carry, da);
    if (writes) unrolled<kGates>([&](int g) { args.dx[at.at(t, kGates, g)] = da[g]; });
  }
  __device__ __forceinline__ void finish(const GateChannel& at, const Carry& carry) const {
    if (args.dh0 == nullptr) return;
    args.dh0[at.state()] = carry.dh;
    args.dc0[at.state()] = carry.dc;
    args.dn0[at.state()] = carry.dn;
    args.dm0[at.state()] =
        carry.dm + carry.dc * args.forward.c0[at.state()] + carry.dn * args.forward.n0[at.state()];
  }
};

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const SlstmForward& args) {
  run_gates<false>(cuda, "slstm_forward", SlstmForwardCell{args}, args.weight);
}
void run(Cuda cuda, const SlstmBackward& args) {
  run_gates<true>(cuda, "slstm_backward", SlstmBackwardCell{args}, args.forward.weight);
}

}  // namespace fprnn
