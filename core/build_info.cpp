#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/core/build_info.h>
#include <fprnn/core/device.h>

#include "fprnn_commit.h"

namespace fprnn {

BuildInfo build_info() {
#if defined(__clang__)
  const std::string compiler =
      fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  const std::string compiler = "gcc " __VERSION__;
#endif
  BuildInfo info{.version = FPRNN_VERSION,
                 .commit = FPRNN_COMMIT,
                 .compiler = compiler,
                 .openmp = _OPENMP,
                 .cuda = built_with_cuda(),
                 .real = kDouble ? "double" : "float",
                 .instruction_sets = {describe(Isa::baseline)}};
#if FPRNN_HAS_X86
  info.instruction_sets.push_back(describe(Isa::avx2));
  info.instruction_sets.push_back(describe(Isa::avx512));
#endif
  return info;
}

std::string describe(const BuildInfo& info) {
  return fmt::format("fprnn {} ({}), {}, OpenMP {}, {}CUDA, {}, {}", info.version, info.commit,
                     info.compiler, info.openmp, info.cuda ? "" : "no ", info.real,
                     fmt::join(info.instruction_sets, " "));
}

}  // namespace fprnn
