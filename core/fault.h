// Rules about the elements of a tensor, which only the kernel that reads them can check. The CPU
// throws at once. A GPU kernel notes one violation, which is thrown when the host next waits for
// the device (Context::synchronise, or a call that reads numbers back). Everything computed since
// the violation is invalid, gradients included.
#pragma once

#include <fprnn/core/real.h>

namespace fprnn {

struct Fault {
  // Which rule was broken: a token or target outside [0, bound), or a mask whose sum is not positive.
  enum class Rule : int32_t { none, token, target, mask };
  Rule rule = Rule::none;
  int64_t value = 0, position = 0, bound = 0;  // what broke it, and where
};

// ValueError with the op, the rule and the values.
[[noreturn]] void throw_fault(const Fault& fault);

}  // namespace fprnn
