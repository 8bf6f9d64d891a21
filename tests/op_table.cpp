#include "op_table.h"

#include <fmt/format.h>

namespace fprnn::tests {

const OpTable& op_table() {
  static const OpTable table = [] {
    OpTable all;
    for (const auto add : {add_elementwise, add_reduce, add_layout, add_products, add_norms,
                           add_recurrences, add_mixers, add_cross_entropy})
      add(all.cases, all.errors);
    return all;
  }();
  return table;
}

std::string name_of(const OpCase& entry) {
  std::string name = entry.op;
  if (!entry.variation.empty()) name += fmt::format(" {}", entry.variation);
  for (const Input& input : entry.inputs) name += fmt::format(" {}", describe(input.shape));
  return name;
}

}  // namespace fprnn::tests
