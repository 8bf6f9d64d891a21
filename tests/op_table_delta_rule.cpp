// The delta rule, by its kernel and by its definition.
#include <cmath>

#include "op_table.h"

namespace fprnn::tests {

namespace {

struct Sizes {
  int64_t B, T, H, HV, n, K, V;
};

struct Options {
  bool gate, state;
};

constexpr double kScale = 0.7;

// Keys about as long as one: a sub-step with beta below 2 / |k|^2 does not expand.
std::vector<Input> inputs_of(const Sizes& size, const Options& with) {
  const auto [B, T, H, HV, n, K, V] = size;
  const double key = 1.2 / std::sqrt(static_cast<double>(K));
  std::vector<Input> inputs{{{B, T, H, K}, -1, 1, true},
                            {{B, T, n, H, K}, -key, key, true},
                            {{B, T, n, HV, V}, -1, 1, true},
                            {{B, T, n, HV}, 0, 1.5, true}};
  if (with.gate) inputs.push_back({{B, T, HV}, -1, 0, true});
  if (with.state) inputs.push_back({{B, HV, K, V}, -1, 1, true});
  return inputs;
}

using Op = DeltaRuleResult (*)(const DeltaRuleInputs&);

void add_delta_rule(OpCases& cases, const std::string& name, Op op, const Sizes& size,
                    const Options& with) {
  const size_t state_at = 4 + with.gate;
  cases.push_back({.op = name,
                   .variation = std::string(with.gate ? "gate " : "") + (with.state ? "state" : ""),
                   .inputs = inputs_of(size, with),
                   .apply =
                       [=](const Vars& x) {
                         const DeltaRuleResult result =
                             op({.q = x[0],
                                 .k = x[1],
                                 .v = x[2],
                                 .beta = x[3],
                                 .g = with.gate ? x[4] : Var(),
                                 .state = with.state ? x[state_at] : Var(),
                                 .scale = static_cast<real>(kScale)});
                         return Vars{result.o, result.state};
                       },
                   .reference =
                       [=](const Arrays& x) {
                         const auto [o, state] =
                             reference::delta_rule({.q = &x[0],
                                                    .k = &x[1],
                                                    .v = &x[2],
                                                    .beta = &x[3],
                                                    .g = with.gate ? &x[4] : nullptr,
                                                    .state = with.state ? &x[state_at] : nullptr,
                                                    .scale = static_cast<real>(kScale)});
                         return Arrays{o, state};
                       }});
}

void add_cases(OpCases& cases) {
  const std::vector<Sizes> sizes{{1, 1, 1, 1, 1, 1, 1},   {3, 2, 1, 2, 2, 3, 5},
                                 {3, 17, 2, 2, 1, 4, 3},  {1, 16, 1, 3, 3, 5, 9},
                                 {3, 33, 2, 4, 2, 17, 7}, {2, 3, 1, 2, 1, 64, 70},
                                 {2, 0, 1, 2, 2, 3, 4},   {0, 2, 1, 1, 1, 3, 4}};
  for (const Sizes& size : sizes)
    for (const Options& with : {Options{false, false}, {true, false}, {false, true}, {true, true}})
      for (const auto& [name, op] :
           {std::pair{"delta_rule", Op{delta_rule}}, {"delta_rule_by_steps", delta_rule_by_steps}})
        add_delta_rule(cases, name, op, size, with);
  // Sizes at which a GPU's kernels change: several chunks and blocks of columns, each width of keys, full
  // sub-steps, keys that have no room in the usual kernel, and in any.
  for (const Sizes& size : std::vector<Sizes>{{1, 70, 2, 2, 2, 32, 100},
                                              {2, 35, 1, 2, 1, 128, 66},
                                              {1, 12, 1, 1, 3, 96, 32},
                                              {1, 3, 1, 1, 32, 33, 16},
                                              {1, 2, 1, 1, 33, 5, 4},
                                              {1, 34, 1, 1, 1, 130, 36},
                                              {1, 2, 1, 1, 1, 260, 3}})
    add_delta_rule(cases, "delta_rule", delta_rule, size, {true, true});
}

// Valid inputs but for what `spoil` does to them.
template <class Spoil>
void add_error(ErrorCases& errors, const std::string& fragment, Spoil spoil) {
  errors.push_back(refuses<ShapeError>("delta_rule", fragment, [=](const Context& c) {
    DeltaRuleInputs in{.q = tensor(c, {2, 5, 2, 3}),
                       .k = tensor(c, {2, 5, 1, 2, 3}),
                       .v = tensor(c, {2, 5, 1, 4, 6}),
                       .beta = tensor(c, {2, 5, 1, 4})};
    spoil(in, c);
    delta_rule(in);
  }));
}

void add_errors(ErrorCases& errors) {
  using In = DeltaRuleInputs;
  add_error(errors, "q must be (B, T, H, d_k)", [](In& in, const Context& c) {
    in.q = tensor(c, {2, 5, 6});
  });
  add_error(errors, "n >= 1: k and q, got (2, 5, 1, 2, 4) and (2, 5, 2, 3)",
            [](In& in, const Context& c) {
              in.k = tensor(c, {2, 5, 1, 2, 4});
            });
  add_error(errors, "v must be (B, T, n, HV, d_v)", [](In& in, const Context& c) {
    in.v = tensor(c, {2, 5, 2, 4, 6});
  });
  add_error(errors, "a multiple of H: q and v, got (2, 5, 2, 3) and (2, 5, 1, 3, 6)",
            [](In& in, const Context& c) {
              in.v = tensor(c, {2, 5, 1, 3, 6});
            });
  add_error(errors, "beta must be (B, T, n, HV): beta and v, got (2, 5, 1, 2)",
            [](In& in, const Context& c) {
              in.beta = tensor(c, {2, 5, 1, 2});
            });
  add_error(errors, "g must be (B, T, HV): g and v, got (2, 5, 2)", [](In& in, const Context& c) {
    in.g = tensor(c, {2, 5, 2});
  });
  add_error(errors, "(B, HV, d_k, d_v): state, q and v, got (2, 2, 3, 6)",
            [](In& in, const Context& c) {
              in.state = tensor(c, {2, 2, 3, 6});
            });
}

}  // namespace

void add_delta_rules(OpCases& cases, ErrorCases& errors) {
  add_cases(cases);
  add_errors(errors);
}

}  // namespace fprnn::tests
