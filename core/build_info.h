// What this build of the library is, for bug reports, records of runs and `--version`.
#pragma once

#include <string>
#include <vector>

namespace fprnn {

// Of what fixed points are solved with, written into figures (report.svg). It is raised when solvers come to do
// other work than before, which a test of their iterations shows; then the figures of docs/ are
// drawn anew.
inline constexpr int kSolverVersion = 2;

struct BuildInfo {
  std::string version;   // "0.1.0"
  std::string commit;    // git describe when the build was configured; "unknown" outside git
  std::string compiler;  // "gcc 12.2.0"
  int openmp;            // the date of its specification, yyyymm: 201511 is OpenMP 4.5
  bool cuda;             // whether the CUDA backend is in it
  std::string real;      // "float" or "double"
  std::vector<std::string> instruction_sets;  // that the CPU kernels are compiled for
};
BuildInfo build_info();

// In one line: "fprnn 0.1.0 (unknown), gcc 12.2.0, OpenMP 201511, no CUDA, float, baseline avx2 avx512".
std::string describe(const BuildInfo& info);

}  // namespace fprnn
