// The device that the tests run on, from the environment: DEVICE=cpu, ISA=baseline|avx2|avx512
// (default the best), THREADS (default 2). Fresh memory is NaN, so whatever reads what was never
// written shows.
#pragma once

#include <fprnn/core/check.h>
#include <fprnn/core/context.h>

#include <cstdlib>
#include <string>

namespace fprnn::tests {

inline std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

inline ContextOptions test_options() {
  const std::string device = environment("DEVICE", "cpu");
  require<ValueError>(device == "cpu" || device == "cuda", "tests", "DEVICE must be cpu or cuda",
                      device);
  require<DeviceError>(device == "cpu" || kHasCuda, "tests",
                       "DEVICE=cuda needs a build with CUDA, which this one is not", device);
  ContextOptions options;
  const std::string threads = environment("THREADS", "2");
  require<ValueError>(
      threads.find_first_not_of("0123456789") == std::string::npos && threads.size() < 5, "tests",
      "THREADS must be a number", threads);
  options.threads = std::stoi(threads);
  options.isa = isa_named(environment("ISA", describe(best_isa()).c_str()));
  options.poison = true;
  return options;
}

inline Context test_context() { return Context::cpu(test_options()); }

}  // namespace fprnn::tests
