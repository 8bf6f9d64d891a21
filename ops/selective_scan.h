// Mamba's selective scan (Gu, Dao, arXiv 2312.00752): a diagonal recurrence whose state is D x N,
//   dt = softplus(delta + delta_bias)         (or delta + delta_bias without softplus)
//   H_t = k_t exp(dt_t A) . H_{t-1} + (dt_t . u_t) b_t^T,   y_t = H_t c_t + skip . u_t
// where k_t is `keep`, or 1 if that is undefined. With negative eigenvalues 2 exp(dt_t A) - 1 stands
// for exp(dt_t A) (arXiv 2411.12537). H is never stored: forward keeps it in the
// first-level cache and, if a gradient will be asked, a checkpoint every kSelectiveScanChunk steps,
// from which backward recomputes (selective_scan.md).
// Cost forward: B T D N exponentials, 12 bytes for each of B T D. Backward: as many exponentials,
// 20 bytes.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

inline constexpr int64_t kSelectiveScanChunk = 16;
// Checkpoints: the state before each chunk of steps, (B, chunks, channels, N), with the channels
// rounded up to a whole number of the widest vectors. On a GPU the state before the first chunk,
// h0, is not among them.
constexpr int64_t selective_scan_chunks(int64_t T) {
  return (T + kSelectiveScanChunk - 1) / kSelectiveScanChunk;
}
constexpr int64_t selective_scan_channels(int64_t D) {
  constexpr int64_t kLanes = 16;
  return (D + kLanes - 1) / kLanes * kLanes;
}
inline Shape selective_scan_checkpoints(const Context& context, int64_t B, int64_t T, int64_t D,
                                        int64_t N) {
  const int64_t without = context.device() == DeviceKind::cuda && T > 0 ? 1 : 0;
  return {B, selective_scan_chunks(T) - without, selective_scan_channels(D), N};
}

// The results and checkpoints, where a sweep on a GPU has computed them already
// (ops/fp_mamba_sweep.h): all three or none. state is not read if the sweep was not asked for it.
// Not used on a CPU.
struct SelectiveScanTrace {
  Tensor y;            // (B, T, D)
  Tensor state;        // (B, D, N)
  Tensor checkpoints;  // as above
};
struct SelectiveScanInputs {
  Var u;                // (B, T, D)
  Var delta;            // (B, T, D)
  Var a;                // (D, N), the paper's A = -exp(A_log)
  Var b;                // (B, T, N)
  Var c;                // (B, T, N)
  Var skip = {};        // (D) or undefined
  Var delta_bias = {};  // (D) or undefined
  Var h0 = {};          // (B, D, N): the state before the first step, or undefined for zero
  Tensor keep = {};     // (B, T) or undefined: factors k_t, without gradient; 0 forgets
  bool softplus = true;
  bool negative = false;  // eigenvalues
};

struct SelectiveScanResult {
  Var y;      // (B, T, D)
  Var state;  // (B, D, N): H after the last step
};

// ShapeError: shapes that do not fit.
SelectiveScanResult selective_scan(const SelectiveScanInputs& inputs,
                                   const SelectiveScanTrace& trace = {});

struct SelectiveScanForward {
  const real* u;           // (B, T, D)
  const real* delta;       // (B, T, D)
  const real* a;           // (D, N)
  const real* b;           // (B, T, N)
  const real* c;           // (B, T, N)
  const real* skip;        // (D) or null
  const real* delta_bias;  // (D) or null
  const real* h0;          // (B, D, N) or null
  const real* keep;        // (B, T) or null
  real* y;                 // (B, T, D)
  real* state;             // (B, D, N)
  real* checkpoints;       // or null
  int64_t B, T, D, N;
  bool softplus;
  bool negative = false;
};

struct SelectiveScanBackward {
  SelectiveScanForward forward;  // its inputs and checkpoints; y and state are not read
  const real* dy;                // (B, T, D)
  const real* dstate;            // (B, D, N) or null
  real* du;                      // (B, T, D)
  real* ddelta;                  // (B, T, D)
  real* da;                      // (D, N)
  real* db;                      // (B, T, N)
  real* dc;                      // (B, T, N)
  real* dskip;                   // (D)
  real* ddelta_bias;             // (D)
  real* dh0;                     // (B, D, N) or null
};
void run(Cpu, const SelectiveScanForward&);
void run(Cpu, const SelectiveScanBackward&);
void run(Cuda, const SelectiveScanForward&);
void run(Cuda, const SelectiveScanBackward&);

}  // namespace fprnn
