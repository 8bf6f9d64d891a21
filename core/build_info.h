// The version, compiler and features of this build, for bug reports, run directories and
// `--version`.
#pragma once

#include <string>
#include <vector>

namespace fprnn {

// The version of the solvers, written into figures (report.svg). It is raised when a change alters
// their iterations, which a test notices; the figures of docs/ must then be drawn again.
inline constexpr int kSolverVersion = 2;

struct BuildInfo {
  std::string version;   // "0.2.0"
  std::string commit;    // git describe when the build was configured; "unknown" outside git
  std::string compiler;  // "gcc 12.2.0"
  int openmp;            // the date of its specification, yyyymm: 201511 is OpenMP 4.5
  bool cuda;             // whether the CUDA backend is in it
  std::string real;      // "float" or "double"
  std::vector<std::string> instruction_sets;  // that the CPU kernels are compiled for
};
BuildInfo build_info();

// One line: "fprnn 0.2.0 (unknown), gcc 12.2.0, OpenMP 201511, no CUDA, float, baseline avx2
// avx512".
std::string describe(const BuildInfo& info);

}  // namespace fprnn
