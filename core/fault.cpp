#include <fprnn/core/check.h>
#include <fprnn/core/fault.h>

#include <array>

namespace fprnn {

void throw_fault(const Fault& fault) {
  const auto text = [](int64_t value) { return describe(value); };
  switch (fault.rule) {
    case Fault::Rule::token:
      throw ValueError("embedding",
                       "tokens must number rows of the table: token, position and rows",
                       std::array{text(fault.value), text(fault.position), text(fault.bound)});
    case Fault::Rule::target:
      throw ValueError("masked_cross_entropy", "targets must be in [0, V): target, position and V",
                       std::array{text(fault.value), text(fault.position), text(fault.bound)});
    case Fault::Rule::mask:
      throw ValueError("masked_cross_entropy", "the mask's sum must be positive");
    case Fault::Rule::none:
      break;
  }
  throw UsageError("fault", "there must be one to throw");
}

}  // namespace fprnn
