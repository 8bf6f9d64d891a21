// The delta rule by its recurrence, for so few sub-steps that a chunk would not be full. A warp has 16
// neighbouring columns of a head's S in registers and waits for nobody: eight lanes share four
// columns, each with every eighth row, so that S^T k is three shuffles away.
// Cost of a sub-step and warp at d_k 128: 192 multiply-adds a lane and some 150 other instructions.
#include <fprnn/cuda/delta_rule.cuh>

namespace fprnn::cuda {

namespace {

constexpr int kAcross = 4, kLanes = 8, kColumns = kAcross * (kWarp / kLanes), kWarps = 4;

// Rows: of S, in a lane.
template <int Rows>
struct Lane {
  const DeltaRuleForward& args;
  int64_t b, head, key_head, column;
  int row, columns;  // first of each; how many columns there are
  bool quads;        // whether columns are four at a multiple of 16 bytes

  __device__ __forceinline__ Lane(const DeltaRuleForward& args, int64_t unit, int64_t groups,
                                  bool quads)
      : args(args),
        b(unit / groups / args.HV),
        head(unit / groups % args.HV),
        key_head(head / (args.HV / args.H)),
        column(unit % groups * kColumns + lane_of() / kLanes * kAcross),
        row(lane_of() % kLanes),
        columns(static_cast<int>(::max(int64_t{0}, ::min(args.V - column, int64_t{kAcross})))),
        quads(quads && columns == kAcross) {}

  __device__ __forceinline__ void load_key(const real* from, real (&k)[Rows]) const {
    unrolled<Rows>(
        [&](int i) { k[i] = row + kLanes * i < args.K ? from[row + kLanes * i] : real(0); });
  }
  __device__ __forceinline__ void load_columns(const real* from, real (&x)[kAcross]) const {
    if (quads && sizeof(real) == 4) {
      const float4 all = *reinterpret_cast<const float4*>(from + column);
      x[0] = all.x, x[1] = all.y, x[2] = all.z, x[3] = all.w;
    } else {
      unrolled<kAcross>([&](int j) { x[j] = j < columns ? from[column + j] : real(0); });
    }
  }
  __device__ __forceinline__ void store_columns(real* to, const real (&x)[kAcross]) const {
    if (quads && sizeof(real) == 4)
      *reinterpret_cast<float4*>(to + column) =
          make_float4(static_cast<float>(x[0]), static_cast<float>(x[1]), static_cast<float>(x[2]),
                      static_cast<float>(x[3]));
    else
      unrolled<kAcross>([&](int j) {
        if (j < columns) to[column + j] = x[j];
      });
  }
  // The state of a head; one that is null is zero.
  __device__ __forceinline__ void load(const real* from, real (&S)[Rows][kAcross]) const {
    unrolled<Rows>([&](int i) {
      if (from != nullptr && row + kLanes * i < args.K)
        load_columns(from + (row + kLanes * i) * args.V, S[i]);
      else
        unrolled<kAcross>([&](int j) { S[i][j] = 0; });
    });
  }
  __device__ __forceinline__ void store(real* to, const real (&S)[Rows][kAcross]) const {
    unrolled<Rows>([&](int i) {
      if (row + kLanes * i < args.K) store_columns(to + (row + kLanes * i) * args.V, S[i]);
    });
  }
  // S^T k, in all eight lanes.
  __device__ __forceinline__ void read(const real (&S)[Rows][kAcross], const real (&k)[Rows],
                                       real (&x)[kAcross]) const {
    unrolled<kAcross>([&](int j) { x[j] = 0; });
    unrolled<Rows>([&](int i) { unrolled<kAcross>([&](int j) { x[j] += S[i][j] * k[i]; }); });
    unrolled<kAcross>([&](int j) { x[j] = warp_sum<kLanes>(x[j]); });
  }
};

// Sub-step s; S decays before it.
template <int Rows>
__device__ __forceinline__ void advance(const Lane<Rows>& at, int64_t s, real decay,
                                        real (&S)[Rows][kAcross]) {
  const DeltaRuleForward& args = at.args;
  const int64_t step = (at.b * args.T * args.n + s) * args.HV + at.head;
  real k[Rows], v[kAcross], seen[kAcross];
  at.load_key(args.k + ((at.b * args.T * args.n + s) * args.H + at.key_head) * args.K, k);
  at.load_columns(args.v + step * args.V, v);
  const real beta = args.beta[step];
  at.read(S, k, seen);
  unrolled<kAcross>([&](int j) { v[j] = beta * (v[j] - decay * seen[j]); });
  unrolled<Rows>(
      [&](int i) { unrolled<kAcross>([&](int j) { S[i][j] = decay * S[i][j] + k[i] * v[j]; }); });
}

template <int Rows>
__global__ void __launch_bounds__(kWarps* kWarp)
    delta_rule_steps_kernel(const DeltaRuleForward args, int64_t units, int64_t groups,
                            int64_t chunks, bool quads) {
  const int64_t unit = row_of_warp<kWarps>();
  if (unit >= units) return;
  const Lane<Rows> at(args, unit, groups, quads);
  const int64_t head = at.b * args.HV + at.head, matrix = args.K * args.V;
  real S[Rows][kAcross], q[Rows], o[kAcross];
  at.load(args.entering == nullptr ? nullptr : args.entering + head * matrix, S);
#pragma unroll 1
  for (int64_t t = 0; t < args.T; ++t) {
    const int64_t token = (at.b * args.T + t) * args.HV + at.head;
    if (args.checkpoints != nullptr && t % args.chunk == 0)
      at.store(args.checkpoints + ((at.b * chunks + t / args.chunk) * args.HV + at.head) * matrix,
               S);
    at.load_key(args.q + ((at.b * args.T + t) * args.H + at.key_head) * args.K, q);
    real decay = args.g == nullptr ? real(1) : exp(args.g[token]);
#pragma unroll 1
    for (int64_t s = t * args.n; s < (t + 1) * args.n; ++s, decay = 1) advance(at, s, decay, S);
    at.read(S, q, o);
    unrolled<kAcross>([&](int j) { o[j] *= args.scale; });
    if (at.row == 0) at.store_columns(args.o + token * args.V, o);
  }
  at.store(args.state + head * matrix, S);
}

}  // namespace

void run_delta_steps(Cuda cuda, const DeltaRuleForward& args) {
  const int64_t groups = ceil_div(args.V, kColumns), units = args.B * args.HV * groups;
  const bool quads = args.V % Quad::kCount == 0 &&
                     quads_aligned(args.v, args.entering, args.o, args.state, args.checkpoints);
  const auto begin = [&](auto kernel) {
    start(cuda, "delta_rule_steps", kernel, rows_by_warps<kWarps>(units), args, units, groups,
          ceil_div(args.T, args.chunk), quads);
  };
  if (args.K <= 32)
    begin(delta_rule_steps_kernel<4>);
  else if (args.K <= 64)
    begin(delta_rule_steps_kernel<8>);
  else if (args.K <= 128)
    begin(delta_rule_steps_kernel<16>);
  else
    begin(delta_rule_steps_kernel<32>);
}

}  // namespace fprnn::cuda
