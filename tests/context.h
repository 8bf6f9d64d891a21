// The device that the tests run on, from the environment: DEVICE=cpu|cuda (default cpu), ISA=baseline|
// avx2|avx512 (default the best), THREADS (default 2), SHARED_MEMORY_LIMIT (bytes of a GPU's block,
// default none). Fresh memory is NaN, so whatever reads what
// was never written shows.
#pragma once

#include <fprnn/core/build_info.h>
#include <fprnn/core/check.h>
#include <fprnn/core/context.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace fprnn::tests {

inline std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

inline int64_t number_in_environment(const char* name, const char* otherwise) {
  const std::string value = environment(name, otherwise);
  require<ValueError>(
      value.find_first_not_of("0123456789") == std::string::npos && value.size() < 10, "tests",
      "the environment must have a number in", name, value);
  return std::stoll(value);
}

inline bool on_gpu() { return environment("DEVICE", "cpu") == "cuda"; }

// Why no test can run, empty if they can: a build with CUDA is tested where there is no GPU too.
inline std::string reason_to_skip_all() {
  return on_gpu() && build_info().cuda && !gpu_is_there() ? "DEVICE=cuda, but there is no GPU" : "";
}

inline ContextOptions test_options() {
  const std::string device = environment("DEVICE", "cpu");
  require<ValueError>(device == "cpu" || device == "cuda", "tests", "DEVICE must be cpu or cuda",
                      device);
  require<DeviceError>(device == "cpu" || build_info().cuda, "tests",
                       "DEVICE=cuda needs a build with CUDA, which this one is not", device);
  ContextOptions options;
  options.threads = static_cast<int>(number_in_environment("THREADS", "2"));
  options.shared_memory_limit = number_in_environment("SHARED_MEMORY_LIMIT", "0");
  options.isa = isa_named(environment("ISA", describe(best_isa()).c_str()));
  options.poison = true;
  return options;
}

// What tests of ops, models, solvers and training run on.
inline Context device_context(const ContextOptions& options) {
  return on_gpu() ? Context::cuda(options) : Context::cpu(options);
}
inline Context test_context() { return device_context(test_options()); }
inline Context context_with(int threads, int64_t byte_limit = 0) {
  ContextOptions options = test_options();
  options.threads = threads;
  options.byte_limit = byte_limit;
  return device_context(options);
}
inline std::vector<Context> contexts_of_every_isa() {
  std::vector<Context> contexts;
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    ContextOptions options = test_options();
    options.isa = isa;
    if (isa <= best_isa()) contexts.push_back(Context::cpu(options));
  }
  return contexts;
}
// And the GPU, if that is the device.
inline std::vector<Context> contexts_of_every_kind() {
  std::vector<Context> contexts = contexts_of_every_isa();
  if (on_gpu()) contexts.push_back(test_context());
  return contexts;
}
// For what is the CPU's alone, whatever the device: threads, instruction sets, the host's memory.
inline Context host_context(int threads = 2) {
  ContextOptions options = test_options();
  options.threads = threads;
  return Context::cpu(options);
}

}  // namespace fprnn::tests
