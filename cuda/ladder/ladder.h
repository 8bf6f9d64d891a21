// The ladder: the scan and the fixed-point solve from the naive loop to the kernel in use. Rungs fulfil the ops'
// contracts, so that one test and one benchmark (bench ladder) take them all. The last rung of each
// is the library's own function. README.md has what each changed, was meant to bring and brought.
#pragma once

#include <fprnn/ops/fp_mamba_sweep.h>
#include <fprnn/ops/scan.h>

#include <span>

namespace fprnn::ladder {

struct ScanRung {
  const char* name;
  void (*forward)(Cuda, const ScanForward&);
  void (*backward)(Cuda, const ScanBackward&);
};
std::span<const ScanRung> scan_rungs();

// Mixers of rank 1, at most 1024 channels.
struct SolveRung {
  const char* name;
  void (*solve)(Cuda, const FpMambaSweep&);
};
std::span<const SolveRung> solve_rungs();

}  // namespace fprnn::ladder
