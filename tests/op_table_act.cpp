// Adaptive computation time: in one kernel, and from the ops of a step.
#include <cmath>
#include <limits>

#include "op_table.h"

namespace fprnn::tests {

namespace {

struct Sizes {
  int64_t B, T, H;
};
struct Options {
  bool lstm, bias, state;
  double halt_bias = 0;  // about: the lower, the more steps
  int64_t max_steps = 6;
};

// Which input is where: x, flag, weight, halt_weight, halt_bias, then what there is of the others.
struct Order {
  size_t bias, h0, c0;
  explicit Order(const Options& with) : bias(5), h0(bias + with.bias), c0(h0 + with.state) {}
};

std::vector<Input> inputs_of(const Sizes& size, const Options& with) {
  const auto [B, T, H] = size;
  const int64_t G = with.lstm ? 4 : 3;
  const double bound = 1 / std::sqrt(static_cast<double>(H));
  std::vector<Input> inputs{{{B, T, G * H}, -1, 1, true},
                            {{G * H}},
                            {{G * H, H}, -bound, bound},
                            {{1, H}},
                            {{1}, with.halt_bias - 0.1, with.halt_bias + 0.1}};
  if (with.bias) inputs.push_back({{G * H}, -bound, bound});
  if (with.state) inputs.push_back({{B, H}, -1, 1, true});
  if (with.state && with.lstm) inputs.push_back({{B, H}, -1, 1, true});
  return inputs;
}

Vars apply(const Vars& x, const Options& with, bool by_parts) {
  const Order at(with);
  ActInputs in{.cell = with.lstm ? RecurrentCell::lstm : RecurrentCell::gru,
               .x = x[0],
               .flag = x[1],
               .weight = x[2],
               .halt_weight = x[3],
               .halt_bias = x[4],
               .max_steps = with.max_steps};
  if (with.bias) in.bias = x[at.bias];
  if (with.state) in.h0 = x[at.h0];
  if (with.state && with.lstm) in.c0 = x[at.c0];
  const ActResult of = by_parts ? act_by_parts(in) : act(in);
  return with.lstm ? Vars{of.h, of.c, of.ponder} : Vars{of.h, of.ponder};
}

Arrays truth(const Arrays& x, const Options& with) {
  const Order at(with);
  return reference::act({.lstm = with.lstm,
                         .x = &x[0],
                         .flag = &x[1],
                         .weight = &x[2],
                         .halt_weight = &x[3],
                         .halt_bias = &x[4],
                         .bias = with.bias ? &x[at.bias] : nullptr,
                         .h0 = with.state ? &x[at.h0] : nullptr,
                         .c0 = with.state && with.lstm ? &x[at.c0] : nullptr,
                         .epsilon = static_cast<real>(0.01),
                         .max_steps = with.max_steps});
}

void add(OpCases& cases, const Sizes& size, const Options& with, bool by_parts) {
  cases.push_back({.op = by_parts ? "act_by_parts" : "act",
                   .variation = std::string(with.lstm ? "lstm " : "gru ") +
                                (with.bias ? "bias " : "") + (with.state ? "state " : "") +
                                "at most " + std::to_string(with.max_steps),
                   .inputs = inputs_of(size, with),
                   .apply = [=](const Vars& x) { return apply(x, with, by_parts); },
                   .reference = [=](const Arrays& x) { return truth(x, with); }});
}

void add_errors(ErrorCases& errors, const std::string& name, ActResult (*op)(const ActInputs&)) {
  const auto call = [=](auto spoil) {
    return [=](const Context& c) {
      ActInputs in{.cell = RecurrentCell::gru,
                   .x = tensor(c, {2, 5, 9}),
                   .flag = tensor(c, {9}),
                   .weight = tensor(c, {9, 3}),
                   .halt_weight = tensor(c, {1, 3}),
                   .halt_bias = tensor(c, {1})};
      spoil(in, c);
      op(in);
    };
  };
  const auto shape = [&](const std::string& fragment, Var ActInputs::*what, const Shape& wrong) {
    errors.push_back(refuses<ShapeError>(name, fragment, call([=](ActInputs& in, const Context& c) {
                                           in.*what = tensor(c, wrong);
                                         })));
  };
  shape("x must be (B, T, G H), got (2, 5, 8)", &ActInputs::x, {2, 5, 8});
  shape("flag must be (G H), got (3)", &ActInputs::flag, {3});
  shape("weight must be (G H, H) with H >= 1; weight, G, got (9, 4)", &ActInputs::weight, {9, 4});
  shape("bias must be (G H), got (3)", &ActInputs::bias, {3});
  shape("halt_weight must be (1, H), got (3)", &ActInputs::halt_weight, {3});
  shape("halt_bias must be (1), got (3)", &ActInputs::halt_bias, {3});
  shape("h0 must be (B, H), got (1, 3)", &ActInputs::h0, {1, 3});
  shape("c0 must be (B, H), got (2, 4)", &ActInputs::c0, {2, 4});
  for (const real epsilon : {real(-0.5), real(1), std::numeric_limits<real>::quiet_NaN()})
    errors.push_back(
        refuses<ValueError>(name, "epsilon must be in [0, 1), got " + describe(epsilon),
                            call([=](ActInputs& in, const Context&) { in.epsilon = epsilon; })));
  for (const int64_t most : {int64_t{0}, kMaxActSteps + 1})
    errors.push_back(
        refuses<ValueError>(name, "max_steps must be 1 to 1000, got " + describe(most),
                            call([=](ActInputs& in, const Context&) { in.max_steps = most; })));
}

}  // namespace

void add_act(OpCases& cases, ErrorCases& errors) {
  const Sizes sizes[] = {{1, 1, 1},  {3, 3, 4}, {1, 5, 9}, {3, 7, 17},
                         {18, 3, 5}, {2, 0, 3}, {0, 2, 3}};
  for (const bool by_parts : {false, true}) {
    for (const Sizes& size : sizes)
      for (const bool lstm : {true, false}) {
        add(cases, size, {lstm, false, false}, by_parts);
        add(cases, size, {lstm, true, true, -1}, by_parts);
      }
    for (const bool lstm : {true, false}) {
      add(cases, {3, 2, 5}, {lstm, true, true, 0, 1}, by_parts);
      add(cases, {3, 4, 6}, {lstm, true, true, -4, 9}, by_parts);
      // No number of steps near the next, as differences along a direction of many inputs need.
      add(cases, {3, 20, 64}, {lstm, true, true, -5, 3}, by_parts);
    }
  }
  // A GPU's kernel: H up to 64 and 128 in other forms, B up to 128 a sequence a block; more cells than
  // it has room for at first.
  for (const bool lstm : {true, false}) {
    for (const Sizes& size : {Sizes{1, 2, 65}, {129, 2, 5}, {130, 1, 65}, {1, 2, 128}, {1, 1, 129}})
      add(cases, size, {lstm, true, true, -5, 3}, false);
    add(cases, {129, 2, 3}, {lstm, true, true, -6, 5}, false);
  }
  add_errors(errors, "act", act);
  add_errors(errors, "act_by_parts", act_by_parts);
}

}  // namespace fprnn::tests
