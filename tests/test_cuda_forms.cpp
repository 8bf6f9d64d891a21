// Which forms of kernels GPUs run that are not here: cuda/forms.h is a function of two numbers.
#include <doctest/doctest.h>
#include <fprnn/cuda/forms.h>

#include "context.h"
#include "needs.h"
#include "refused.h"

namespace fprnn::tests {

using namespace cuda;

TEST_CASE("cuda forms: every compute capability from 8.0 on") {
  struct Gpu {
    int capability;
    int64_t shared_bytes;
    Forms forms;
  };
  constexpr int64_t kKiB = 1024;
  const Gpu gpus[] = {
      {80, 163 * kKiB, {.boxes = false, .block_bytes = 161 * kKiB}},   // A100
      {86, 99 * kKiB, {.boxes = false, .block_bytes = 97 * kKiB}},     // RTX 3090, A40
      {89, 99 * kKiB, {.boxes = false, .block_bytes = 97 * kKiB}},     // RTX 4090, L40
      {90, 227 * kKiB, {.boxes = true, .block_bytes = 225 * kKiB}},    // H100, H200
      {100, 227 * kKiB, {.boxes = true, .block_bytes = 225 * kKiB}},   // B200
      {120, 99 * kKiB, {.boxes = true, .block_bytes = 97 * kKiB}},     // RTX 5090
      {80, 227 * kKiB, {.boxes = false, .block_bytes = 225 * kKiB}}};  // an H200 with code for 8.0
  for (const Gpu& gpu : gpus) {
    CAPTURE(gpu.capability);
    CHECK(gpu.capability >= kLeastCapability);
    CHECK(forms_of(gpu.capability, gpu.shared_bytes) == gpu.forms);
    CHECK(gpu.forms.fit(kLeastBlockBytes));
    CHECK(gpu.forms.fit(gpu.forms.block_bytes));
    CHECK_FALSE(gpu.forms.fit(gpu.forms.block_bytes + 1));
  }
}

TEST_CASE("cuda forms: a negative limit of shared memory is refused") {
  ContextOptions options = test_options();
  options.shared_memory_limit = -1;
  check_refused<ValueError>("shared memory must not be negative, got -1",
                            [&] { Context::cpu(options); });
}

TEST_CASE("cuda forms: a limit below 99 KiB is refused" * needs_gpu()) {
  ContextOptions options = test_options();
  options.shared_memory_limit = (99 << 10) - 1;
  check_refused<ValueError>("101375", [&] { Context::cuda(options); });
  options.shared_memory_limit = 99 << 10;
  CHECK_NOTHROW(Context::cuda(options));
}

}  // namespace fprnn::tests
