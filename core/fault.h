// Rules about values that only whoever reads a tensor's elements can check. The CPU throws on the
// spot; a GPU kernel notes a breach, one of several, which is thrown when the host next waits for
// the device (Context::synchronise, and whatever reads numbers back). What was computed since is of
// no use: gradients among it must be dropped.
#pragma once

#include <fprnn/core/real.h>

namespace fprnn {

struct Fault {
  enum class Rule : int32_t { none, token, target, mask };
  Rule rule = Rule::none;
  int64_t value = 0, position = 0, bound = 0;
};

[[noreturn]] void throw_fault(
    const Fault& fault);  // ValueError with the op, the rule and the values

}  // namespace fprnn
