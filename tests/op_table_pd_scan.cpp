// The scan of PD-SSM. Differences see nothing of the gradients of the selection and the dictionary,
// which go straight through: test_pd_ssm.cpp compares those of both forms.
#include "op_table.h"

namespace fprnn::tests {

namespace {

struct Sizes {
  int64_t B, T, N, K;
};

void add(OpCases& cases, const Sizes& size, bool row, bool h0, bool by_parts) {
  const auto [B, T, N, K] = size;
  OpCase entry{.op = by_parts ? "pd_scan_by_parts" : "pd_scan",
               .variation = std::string(row ? "rows" : "columns") + (h0 ? " h0" : ""),
               .inputs = {{{B, T, K}, -2, 2, true, false},
                          {{N, N, K}, -1, 1, false, false},
                          {{B, T, 2 * N}, -0.7, 0.7, true},
                          {{B, T, 2 * N}, -1, 1, true}},
               .apply =
                   [=](const Vars& x) {
                     const PdScanInputs in{.selection = x[0],
                                           .dictionary = x[1],
                                           .d = x[2],
                                           .b = x[3],
                                           .h0 = h0 ? x[4] : Var(),
                                           .one_hot = row ? OneHot::row : OneHot::column};
                     return Vars{by_parts ? pd_scan_by_parts(in) : pd_scan(in)};
                   },
               .reference =
                   [=](const Arrays& x) {
                     return Arrays{reference::pd_scan({.selection = &x[0],
                                                       .dictionary = &x[1],
                                                       .d = &x[2],
                                                       .b = &x[3],
                                                       .h0 = h0 ? &x[4] : nullptr,
                                                       .row = row})};
                   }};
  if (h0) entry.inputs.push_back({{B, 2 * N}, -1, 1, true});
  cases.push_back(entry);
}

void add_errors(ErrorCases& errors, const std::string& name, Var (*op)(const PdScanInputs&)) {
  const auto refuse = [&](const std::string& fragment, Var PdScanInputs::*what,
                          const Shape& wrong) {
    errors.push_back(refuses<ShapeError>(name, fragment, [=](const Context& c) {
      PdScanInputs in{.selection = tensor(c, {2, 5, 3}),
                      .dictionary = tensor(c, {4, 4, 3}),
                      .d = tensor(c, {2, 5, 8}),
                      .b = tensor(c, {2, 5, 8})};
      in.*what = tensor(c, wrong);
      op(in);
    }));
  };
  refuse("dictionary must be (N, N, K) with N, K >= 1, got (4, 5, 3)", &PdScanInputs::dictionary,
         {4, 5, 3});
  refuse("dictionary must be (N, N, K) with N, K >= 1, got (4, 4, 0)", &PdScanInputs::dictionary,
         {4, 4, 0});
  refuse("d must be (B, T, 2 N): d, dictionary, got (2, 5, 4)", &PdScanInputs::d, {2, 5, 4});
  refuse("b must be (B, T, 2 N): b, d, got (2, 4, 8)", &PdScanInputs::b, {2, 4, 8});
  refuse("selection must be (B, T, K), got (2, 5, 4)", &PdScanInputs::selection, {2, 5, 4});
  refuse("h0 must be (B, 2 N): h0, d, got (1, 8)", &PdScanInputs::h0, {1, 8});
}

}  // namespace

void add_pd_scans(OpCases& cases, ErrorCases& errors) {
  // The last three are beyond the kernels of a GPU.
  const Sizes sizes[] = {{1, 1, 1, 1},   {3, 3, 2, 3},   {1, 5, 9, 2},  {3, 7, 17, 3},
                         {3, 42, 33, 5}, {2, 0, 3, 2},   {0, 2, 3, 2},  {2, 2, 32, 16},
                         {1, 1, 64, 17}, {129, 2, 3, 2}, {1, 2, 65, 3}, {1, 1, 128, 2},
                         {1, 1, 129, 1}, {1, 1, 65, 17}, {2, 2, 5, 33}};
  for (const bool by_parts : {false, true}) {
    for (const Sizes& size : sizes)
      for (const bool row : {false, true}) add(cases, size, row, size.N > 2, by_parts);
    add(cases, {2, 4, 5, 3}, false, false, by_parts);
  }
  add_errors(errors, "pd_scan", pd_scan);
  add_errors(errors, "pd_scan_by_parts", pd_scan_by_parts);
}

}  // namespace fprnn::tests
