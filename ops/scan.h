// First-order scan, the diagonal recurrence itself, forwards or reversed in time:
//   h_t = a_t . h_{t-1} + b_t,  h_{-1} = h0 or 0
//   h_t = a_t . h_{t+1} + b_t,  h_T = h0 or 0
// Backward is a scan the other way (scan.md).
// Cost: 12 bytes an element forward (float: read a, b, write h), 20 backward (read a, h, dh, write
// da, db). Keeps a, h and h0.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

struct ScanOptions {
  Var h0 = {};           // (B, D): the state before the first step, or after the last if reversed
  bool reverse = false;  // from the last step to the first
};

// a, b (B, T, D) -> h (B, T, D). ShapeError: shapes differ.
Var scan(const Var& a, const Var& b, const ScanOptions& options = {});

struct ScanForward {
  const real* a;   // (B, T, D)
  const real* b;   // (B, T, D)
  const real* h0;  // (B, D) or null
  real* h;         // (B, T, D)
  int64_t B, T, D;
  bool reverse;
};
struct ScanBackward : ScanForward {  // b is not read
  const real* dh = nullptr;          // (B, T, D)
  real* da = nullptr;                // (B, T, D)
  real* db = nullptr;                // (B, T, D)
  real* dh0 = nullptr;               // (B, D); also what carries g from step to step
};
void run(Cpu, const ScanForward&);
void run(Cpu, const ScanBackward&);
void run(Cuda, const ScanForward&);
void run(Cuda, const ScanBackward&);

}  // namespace fprnn
