#include "op_table.h"

#include <fmt/format.h>

#include "context.h"
#include "needs.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kSmall = 3000;  // elements of all inputs together

}  // namespace

int64_t elements_of(const OpCase& entry) {
  int64_t elements = 0;
  for (const Input& input : entry.inputs) elements += input.shape.elements();
  return elements;
}

const OpTable& op_table() {
  static const OpTable table = [] {
    OpTable all;
    for (const auto add :
         {add_elementwise, add_reduce, add_layout, add_products, add_norms, add_recurrences,
          add_ssd_scans, add_delta_rules, add_xlstm, add_mixers, add_fp_mamba, add_cross_entropy,
          add_recurrent, add_attention, add_act, add_pd_scans})
      add(all.cases, all.errors);
    if (const std::string op = environment("OP", ""); !op.empty()) {
      std::erase_if(all.cases, [&](const OpCase& entry) { return entry.op != op; });
      std::erase_if(all.errors, [&](const ErrorCase& entry) { return entry.op != op; });
    }
    if (small_only())
      std::erase_if(all.cases, [](const OpCase& entry) { return elements_of(entry) > kSmall; });
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
