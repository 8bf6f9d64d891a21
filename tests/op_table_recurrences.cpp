// Convolution in time, the scan and the selective scan.
#include "context.h"
#include "op_table.h"

namespace fprnn::tests {

namespace {

// Optional inputs follow the others in the order of the op's arguments; these find them again.
const Array* at(const Arrays& x, size_t i, bool present) { return present ? &x[i] : nullptr; }
Var at(const Vars& x, size_t i, bool present) { return present ? x[i] : Var(); }

struct Sizes {
  int64_t B, T, D;
};

void add_conv(OpCases& cases, const Sizes& size, int64_t W, bool bias, bool state) {
  const auto [B, T, D] = size;
  std::vector<Input> inputs{{{B, T, D}, -1, 1, true}, {{D, W}}};
  if (bias) inputs.push_back({{D}});
  if (state) inputs.push_back({{B, W - 1, D}, -1, 1, true});
  cases.push_back(
      {.op = "causal_conv",
       .variation = std::string(bias ? "bias " : "") + (state ? "state " : ""),
       .inputs = inputs,
       .apply =
           [=](const Vars& x) {
             return Vars{causal_conv(x[0], x[1], at(x, 2, bias), at(x, 2 + bias, state))};
           },
       .reference =
           [=](const Arrays& x) {
             return Arrays{
                 reference::causal_conv(x[0], x[1], at(x, 2, bias), at(x, 2 + bias, state))};
           }});
}

void add_conv_state(OpCases& cases, const Sizes& size, int64_t W, bool state) {
  const auto [B, T, D] = size;
  std::vector<Input> inputs{{{B, T, D}, -1, 1, true}};
  if (state) inputs.push_back({{B, W - 1, D}, -1, 1, true});
  cases.push_back(
      {.op = "conv_state",
       .variation = "of width " + describe(W),
       .inputs = inputs,
       .apply = [=](const Vars& x) { return Vars{conv_state(x[0], W, at(x, 1, state))}; },
       .reference =
           [=](const Arrays& x) {
             return Arrays{reference::conv_state(x[0], W, at(x, 1, state))};
           }});
}

void add_convs(OpCases& cases) {
  const std::vector<std::pair<Sizes, int64_t>> sizes{
      {{1, 1, 1}, 1},    {{3, 1, 3}, 4},    {{3, 2, 5}, 4},  {{1, 3, 3}, 7},   {{3, 31, 1}, 2},
      {{2, 32, 3}, 3},   {{3, 33, 17}, 4},  {{1, 63, 5}, 4}, {{1, 65, 33}, 4}, {{3, 127, 65}, 4},
      {{3, 1000, 9}, 4}, {{1, 1025, 3}, 5}, {{2, 0, 3}, 4},  {{0, 2, 3}, 4}};
  for (const auto& [size, W] : sizes)
    for (const bool state : {false, true}) {
      for (const bool bias : {false, true}) add_conv(cases, size, W, bias, state);
      add_conv_state(cases, size, W, state);
    }
}

void add_scans(OpCases& cases) {
  for (const auto& [B, T, D] : {Sizes{1, 1, 1},
                                {3, 2, 3},
                                {1, 31, 5},
                                {2, 32, 1},
                                {3, 33, 17},
                                {1, 63, 3},
                                {3, 65, 33},
                                {1, 127, 5},
                                {3, 1000, 9},
                                {3, 1025, 5},
                                {2, 40, 513},
                                {1, 1, 4},
                                {3, 17, 60},
                                {2, 65, 100},
                                {2, 0, 4},
                                {0, 2, 4},
                                {2, 0, 3},
                                {0, 2, 3}})
    for (const bool reverse : {false, true})
      for (const bool h0 : {false, true}) {
        std::vector<Input> inputs{{{B, T, D}, -1, 1, true}, {{B, T, D}, -1, 1, true}};
        if (h0) inputs.push_back({{B, D}, -1, 1, true});
        cases.push_back({.op = "scan",
                         .variation = std::string(reverse ? "reversed " : "") + (h0 ? "h0 " : ""),
                         .inputs = inputs,
                         .apply =
                             [=](const Vars& x) {
                               return Vars{
                                   scan(x[0], x[1], {.h0 = at(x, 2, h0), .reverse = reverse})};
                             },
                         .reference =
                             [=](const Arrays& x) {
                               return Arrays{reference::scan(x[0], x[1], at(x, 2, h0), reverse)};
                             }});
      }
}

struct Options {
  bool skip, delta_bias, h0, softplus, keep = false, negative = false;
};

// Factors of the state, the same in every sequence: 1, 0 and what lies between.
double keep_at(int64_t t) { return t % 3 == 1 ? 1 : t % 5 == 0 ? 0 : 0.5; }
Tensor keep_tensor(const Context& context, const Shape& tokens) {
  std::vector<real> keep(tokens.elements());
  for (size_t i = 0; i < keep.size(); ++i)
    keep[i] = static_cast<real>(keep_at(static_cast<int64_t>(i) % tokens[1]));
  return {context, tokens, keep};
}
Array keep_array(const Shape& tokens) {
  Array keep(tokens);
  for (int64_t i = 0; i < tokens.elements(); ++i) keep.data[i] = keep_at(i % tokens[1]);
  return keep;
}

std::string text_of(const Options& with) {
  return std::string(with.skip ? "skip " : "") + (with.delta_bias ? "delta_bias " : "") +
         (with.h0 ? "h0 " : "") + (with.softplus ? "" : "no softplus ") +
         (with.keep ? "keep " : "") + (with.negative ? "negative " : "");
}

std::vector<Input> selective_scan_inputs(const Sizes& size, int64_t N, const Options& with) {
  const auto [B, T, D] = size;
  // A step size that is not a softplus must not be negative, or the recurrence would grow.
  std::vector<Input> inputs{{{B, T, D}, -1, 1, true},
                            {{B, T, D}, with.softplus ? -3.0 : 0.1, 1, true},
                            {{D, N}, -2, -0.1},
                            {{B, T, N}, -1, 1, true},
                            {{B, T, N}, -1, 1, true}};
  if (with.skip) inputs.push_back({{D}});
  if (with.delta_bias) inputs.push_back({{D}, 0, 0.5});
  if (with.h0) inputs.push_back({{B, D, N}, -1, 1, true});
  return inputs;
}

void add_selective_scan(OpCases& cases, const Sizes& size, int64_t N, const Options& with) {
  const size_t bias_at = 5 + with.skip, h0_at = bias_at + with.delta_bias;
  cases.push_back(
      {.op = "selective_scan",
       .variation = text_of(with),
       .inputs = selective_scan_inputs(size, N, with),
       .apply =
           [=](const Vars& x) {
             const auto [y, state] = selective_scan(
                 {.u = x[0],
                  .delta = x[1],
                  .a = x[2],
                  .b = x[3],
                  .c = x[4],
                  .skip = at(x, 5, with.skip),
                  .delta_bias = at(x, bias_at, with.delta_bias),
                  .h0 = at(x, h0_at, with.h0),
                  .keep =
                      with.keep ? keep_tensor(x[0].context(), x[0].shape().without(-1)) : Tensor(),
                  .softplus = with.softplus,
                  .negative = with.negative});
             return Vars{y, state};
           },
       .reference =
           [=](const Arrays& x) {
             const Array keep = keep_array(x[0].shape.without(-1));
             const auto [y, state] =
                 reference::selective_scan({.u = &x[0],
                                            .delta = &x[1],
                                            .a = &x[2],
                                            .b = &x[3],
                                            .c = &x[4],
                                            .skip = at(x, 5, with.skip),
                                            .delta_bias = at(x, bias_at, with.delta_bias),
                                            .h0 = at(x, h0_at, with.h0),
                                            .keep = with.keep ? &keep : nullptr,
                                            .softplus = with.softplus,
                                            .negative = with.negative});
             return Arrays{y, state};
           }});
}

void add_selective_scans(OpCases& cases) {
  const Options none{false, false, false, true}, all{true, true, true, true},
      linear{true, true, true, false}, kept{true, true, true, true, true};
  for (const bool skip : {false, true})
    for (const bool bias : {false, true})
      for (const bool h0 : {false, true})
        for (const bool softplus : {false, true})
          add_selective_scan(cases, {3, 2, 3}, 2, {skip, bias, h0, softplus});
  const std::vector<std::pair<Sizes, int64_t>> sizes{
      {{1, 1, 1}, 1},    {{3, 1, 5}, 3},    {{1, 31, 3}, 1},  {{3, 32, 1}, 2},  {{3, 33, 5}, 4},
      {{1, 63, 17}, 3},  {{2, 65, 3}, 16},  {{1, 127, 5}, 5}, {{3, 33, 33}, 7}, {{3, 70, 150}, 3},
      {{1, 1000, 3}, 2}, {{3, 1025, 2}, 2}, {{2, 0, 3}, 2},   {{0, 2, 3}, 2}};
  for (const auto& [size, N] : sizes)
    for (const Options& with : {none, all, linear, kept}) add_selective_scan(cases, size, N, with);
  for (const auto& [size, N] : sizes)
    for (const bool keep : {false, true})
      add_selective_scan(cases, size, N, {true, true, true, true, keep, true});
}

void add_conv_errors(ErrorCases& errors) {
  const auto refuse = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ShapeError>(op, fragment, call));
  };
  refuse("causal_conv", "(B, T, D), got (2, 3)", [](const Context& c) {
    causal_conv(tensor(c, {2, 3}), tensor(c, {3, 4}));
  });
  refuse("causal_conv", "W >= 1, got (4, 2) and (2, 5, 3)", [](const Context& c) {
    causal_conv(tensor(c, {2, 5, 3}), tensor(c, {4, 2}));
  });
  refuse("causal_conv", "W >= 1, got (3, 0)", [](const Context& c) {
    causal_conv(tensor(c, {2, 5, 3}), tensor(c, {3, 0}));
  });
  refuse("causal_conv", "bias must be (D), got (2)", [](const Context& c) {
    causal_conv(tensor(c, {2, 5, 3}), tensor(c, {3, 4}), tensor(c, {2}));
  });
  refuse("causal_conv", "(B, W - 1, D), got (2, 4, 3)", [](const Context& c) {
    causal_conv(tensor(c, {2, 5, 3}), tensor(c, {3, 4}), {}, tensor(c, {2, 4, 3}));
  });
  refuse("conv_state", "(B, T, D), got (2, 3)", [](const Context& c) {
    conv_state(tensor(c, {2, 3}), 4);
  });
  refuse("conv_state", "(B, W - 1, D), got (2, 2, 3) and (2, 3, 3)", [](const Context& c) {
    conv_state(tensor(c, {2, 5, 3}), 4, tensor(c, {2, 2, 3}));
  });
  errors.push_back(refuses<ValueError>("conv_state", "at least 1, got 0", [](const Context& c) {
    conv_state(tensor(c, {2, 5, 3}), 0);
  }));
}

void add_scan_errors(ErrorCases& errors) {
  const auto refuse = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ShapeError>(op, fragment, call));
  };
  refuse("scan", "same shape, got (2, 7, 4) and (2, 8, 4)", [](const Context& c) {
    scan(tensor(c, {2, 7, 4}), tensor(c, {2, 8, 4}));
  });
  refuse("scan", "(B, T, D), got (7, 4)", [](const Context& c) {
    scan(tensor(c, {7, 4}), tensor(c, {7, 4}));
  });
  refuse("scan", "(B, D), got (2, 5) and (2, 7, 4)", [](const Context& c) {
    scan(tensor(c, {2, 7, 4}), tensor(c, {2, 7, 4}), {.h0 = tensor(c, {2, 5})});
  });
  errors.push_back(refuses<UsageError>("scan", "one tape", [](const Context& c) {
    Tape first(c), second(c);
    scan(first.variable(tensor(c, {1, 2, 3})), tensor(c, {1, 2, 3}),
         {.h0 = second.variable(tensor(c, {1, 3}))});
  }));
}

SelectiveScanInputs scan_inputs(const Context& c) {
  return {.u = tensor(c, {2, 5, 3}),
          .delta = tensor(c, {2, 5, 3}),
          .a = tensor(c, {3, 4}),
          .b = tensor(c, {2, 5, 4}),
          .c = tensor(c, {2, 5, 4})};
}

// Valid inputs but for what `spoil` does to them.
template <class Spoil>
void add_selective_scan_error(ErrorCases& errors, const std::string& fragment, Spoil spoil) {
  errors.push_back(refuses<ShapeError>("selective_scan", fragment, [=](const Context& c) {
    SelectiveScanInputs in = scan_inputs(c);
    spoil(in, c);
    selective_scan(in);
  }));
}

void add_selective_scan_errors(ErrorCases& errors) {
  using In = SelectiveScanInputs;
  const auto refuse = [&](const std::string& fragment, auto spoil) {
    add_selective_scan_error(errors, fragment, spoil);
  };
  refuse("(B, T, D), got (5, 3)", [](In& in, const Context& c) { in.u = tensor(c, {5, 3}); });
  refuse("same shape, got (2, 5, 3) and (2, 5, 4)", [](In& in, const Context& c) {
    in.delta = tensor(c, {2, 5, 4});
  });
  for (const Shape& checkpoints : {Shape{}, Shape{2, 2, 16, 4}})
    errors.push_back(refuses<ShapeError>("selective_scan", "all or nothing", [=](const Context& c) {
      const SelectiveScanTrace trace{tensor(c, {2, 5, 3}), tensor(c, {2, 3, 4}),
                                     checkpoints.rank() == 0 ? Tensor() : tensor(c, checkpoints)};
      selective_scan(scan_inputs(c), trace);
    }));
  refuse("N >= 1, got (2, 4) and (2, 5, 3)", [](In& in, const Context& c) {
    in.a = tensor(c, {2, 4});
  });
  refuse("N >= 1, got (3, 0)", [](In& in, const Context& c) { in.a = tensor(c, {3, 0}); });
  refuse("got (2, 6, 4), (2, 5, 4)", [](In& in, const Context& c) { in.b = tensor(c, {2, 6, 4}); });
  refuse("got (2, 5, 4), (2, 5, 3)", [](In& in, const Context& c) { in.c = tensor(c, {2, 5, 3}); });
  refuse("skip must be (D), got (4)", [](In& in, const Context& c) { in.skip = tensor(c, {4}); });
  refuse("delta_bias must be (D), got (1)",
         [](In& in, const Context& c) { in.delta_bias = tensor(c, {1}); });
  refuse("h0 must be (B, D, N), got (2, 4, 3)", [](In& in, const Context& c) {
    in.h0 = tensor(c, {2, 4, 3});
  });
  refuse("keep must be (B, T), got (2, 4)", [](In& in, const Context& c) {
    in.keep = tensor(c, {2, 4});
  });
}

}  // namespace

void add_recurrences(OpCases& cases, ErrorCases& errors) {
  add_convs(cases);
  add_scans(cases);
  add_selective_scans(cases);
  add_conv_errors(errors);
  add_scan_errors(errors);
  add_selective_scan_errors(errors);
}

}  // namespace fprnn::tests
