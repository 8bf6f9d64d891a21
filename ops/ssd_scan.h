// Mamba-2's scan (Dao, Gu, arXiv 2405.21060): every head has one decay a step for all of its
// state, which is P x N. With g the group of head h,
//   dt = softplus(dt + dt_bias), kept within [dt_min, dt_max]
//   a = exp(dt A)                (or 2 exp(dt A) - 1 with negative eigenvalues, arXiv 2411.12537)
//   S_t = a_t S_{t-1} + (dt_t x_t) b_{g,t}^T,   y_t = S_t c_{g,t} + skip . x_t
// On the CPU kernels of its own: long sequences in chunks, whose work is matrix products, others
// and those with negative eigenvalues step by step (ssd_scan.md). On a GPU in chunks, or as selective
// scans where the kernel has no room or eigenvalues are negative.
// Cost forward, a token and head: 5 P N flops, or 4 P N + 2 Q P in chunks of Q steps. Where a
// gradient will be asked, the state before every chunk is kept.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

#include <limits>

namespace fprnn {

// Steps of a chunk on the CPU.
inline constexpr int64_t kSsdChunk = 64;
// On a GPU: steps of a chunk, and the most channels and states of a head that the kernel takes.
inline constexpr int kSsdGpuChunk = 32, kSsdGpuChannels = 64, kSsdGpuStates = 128;

struct SsdScanInputs {
  Var x;             // (B, T, H, P)
  Var dt;            // (B, T, H)
  Var a;             // (H), the paper's A = -exp(A_log)
  Var b;             // (B, T, G, N); G divides H, and head h is of group h / (H / G)
  Var c;             // (B, T, G, N)
  Var skip = {};     // (H), (H, P) or undefined
  Var dt_bias = {};  // (H) or undefined
  Var h0 = {};       // (B, H, P, N): the state before the first step, or undefined for zero
  bool softplus = true;
  real dt_min = -std::numeric_limits<real>::infinity();
  real dt_max = std::numeric_limits<real>::infinity();
  bool negative = false;  // eigenvalues
  // Products keep all bits of their factors, whatever the Context's precision: one step gives what
  // it gives among many.
  bool exact = false;
};

struct SsdScanResult {
  Var y;      // (B, T, H, P)
  Var state;  // (B, H, P, N): S after the last step
};
// The results and checkpoints, where a sweep on a GPU has computed them already
// (ops/fp_mamba_sweep.h): all three or none. state is not read if the sweep was not asked for it.
// Not used without a kernel.
struct SsdScanTrace {
  Tensor y;            // (B, T, H, P)
  Tensor state;        // (B, H, P, N)
  Tensor checkpoints;  // of ssd_scan_checkpoints
};
Shape ssd_scan_checkpoints(const Context& context, int64_t B, int64_t T, int64_t H, int64_t P,
                           int64_t N);

// ShapeError: shapes that do not fit, or a part of a trace. ValueError: dt_min above dt_max.
// DeviceError: limits of dt on a GPU where its kernel does not take the sizes.
SsdScanResult ssd_scan(const SsdScanInputs& inputs, const SsdScanTrace& trace = {});

// The same as a selective scan of each group. UsageError: limits of dt.
SsdScanResult ssd_scan_by_parts(const SsdScanInputs& inputs);

struct SsdScanForward {
  const real* x;        // (B, T, H, P)
  const real* dt;       // (B, T, H)
  const real* a;        // (H)
  const real* b;        // (B, T, G, N)
  const real* c;        // (B, T, G, N)
  const real* skip;     // (H), (H, P) with channel_skip, or null
  const real* dt_bias;  // (H) or null
  const real* h0;       // (B, H, P, N) or null
  real* y;              // (B, T, H, P)
  real* state;          // (B, H, P, N)
  real*
      checkpoints;  // or null: the states before chunks, (B, H, chunks, P rounded up to 16, N) in a
                    // kernel's own order; on a GPU (B, H, chunks - 1, P, N), without the first
  int64_t B, T, H, P, G, N;
  real dt_min, dt_max;
  bool softplus, channel_skip, negative, exact;
  bool chunked;  // which of the CPU's two kernels
};

struct SsdScanBackward {
  SsdScanForward forward;  // its inputs and checkpoints; y and state are not read
  const real* dy;          // (B, T, H, P)
  const real* dstate;      // (B, H, P, N) or null
  real* dx;                // (B, T, H, P)
  real* ddt;               // (B, T, H)
  real* da;                // (H)
  real* db;                // (B, T, G, N)
  real* dc;                // (B, T, G, N)
  real* dskip;             // (H, P)
  real* ddt_bias;          // (H)
  real* dh0;               // (B, H, P, N) or null
};
// What a unit of backward's work, some heads of one group and sequence, leaves to be added up.
struct SsdShares {
  real* db;       // (T, N), zero before
  real* dc;       // (T, N), zero before
  real* da;       // (H) of the sequence, and so the next two, zero before
  real* dt_bias;  // (H)
  real* dskip;    // (H, P)
};
void run(Cpu, const SsdScanForward&);
void run(Cpu, const SsdScanBackward&);
bool supports(Cuda, const SsdScanForward&);
void run(Cuda, const SsdScanForward&);
void run(Cuda, const SsdScanBackward&);

}  // namespace fprnn
