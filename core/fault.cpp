#include <fprnn/core/check.h>
#include <fprnn/core/fault.h>

namespace fprnn {

void throw_fault(const Fault& fault) {
  const auto refuse = [&](const char* op, const char* rule) {
    require<ValueError>(false, op, rule, fault.value, fault.position, fault.bound);
  };
  if (fault.rule == Fault::Rule::token)
    refuse("embedding", "tokens must number rows of the table: token, position and rows");
  if (fault.rule == Fault::Rule::target)
    refuse("masked_cross_entropy", "targets must be in [0, V): target, position and V");
  if (fault.rule == Fault::Rule::mask)
    throw ValueError("masked_cross_entropy", "the mask's sum must be positive");
  throw UsageError("fault", "there must be one to throw");
}

}  // namespace fprnn
