#include <fprnn/core/build_info.h>
#include <fprnn/core/device.h>

namespace fprnn {

BuildInfo build_info() {
#if defined(__clang__)
  const std::string compiler = "clang " + std::to_string(__clang_major__) + "." +
                               std::to_string(__clang_minor__) + "." +
                               std::to_string(__clang_patchlevel__);
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
  std::string text = "fprnn " + info.version + " (" + info.commit + "), " + info.compiler +
                     ", OpenMP " + std::to_string(info.openmp) +
                     (info.cuda ? ", CUDA, " : ", no CUDA, ") + info.real + ",";
  for (const std::string& isa : info.instruction_sets) text += " " + isa;
  return text;
}

}  // namespace fprnn
