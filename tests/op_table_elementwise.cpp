#include <cmath>

#include "op_table.h"

namespace fprnn::tests {

namespace {

using UnaryOp = Var (*)(const Var&);
using UnaryTruth = double (*)(double);
using BinaryOp = Var (*)(const Var&, const Var&);
using BinaryTruth = Array (*)(const Array&, const Array&);

// Whole registers and what is left of them, one piece and several.
const std::vector<Shape> kShapes{{},    {0},    {1},    {2},        {3},       {3, 5},
                                 {17},  {31},   {32},   {33},       {63},      {65},
                                 {127}, {1000}, {1025}, {3, 2, 17}, {3, 0, 4}, {3, 41, 200}};

// Of one element, with arguments from low to high.
void add_unary(OpCases& cases, const std::string& op, UnaryOp apply, double low, double high,
               UnaryTruth truth) {
  for (const Shape& shape : kShapes)
    cases.push_back(
        {.op = op,
         .inputs = {{shape, low, high, shape.rank() == 3}},
         .apply = [=](const Vars& x) { return Vars{apply(x[0])}; },
         .reference = [=](const Arrays& x) { return Arrays{reference::map(x[0], truth)}; }});
}

void add_affine(OpCases& cases) {
  for (const auto& constants : {std::pair{-1.5, 0.25}, {0.0, 2.0}, {3.0, 0.0}})
    for (const Shape& shape : {Shape{0}, Shape{33}, Shape{3, 41, 200}}) {
      const double scale = constants.first, shift = constants.second;
      cases.push_back(
          {.op = "affine",
           .variation = "by " + describe(scale) + " and " + describe(shift),
           .inputs = {{shape, -3, 3, shape.rank() == 3}},
           .apply = [=](const Vars& x) { return Vars{affine(x[0], real(scale), real(shift))}; },
           .reference =
               [=](const Arrays& x) { return Arrays{reference::affine(x[0], scale, shift)}; }});
    }
}

// Every way in which two shapes can meet: equal, the end of the other, size-1 axes at either end
// and in the middle, each side giving an axis, scalars and empty tensors.
const std::vector<std::pair<Shape, Shape>> kShapePairs{{{33}, {33}},
                                                       {{}, {}},
                                                       {{5}, {}},
                                                       {{}, {5}},
                                                       {{2, 3}, {3}},
                                                       {{3}, {2, 3}},
                                                       {{3, 1}, {3, 17}},
                                                       {{3, 17}, {3, 1}},
                                                       {{3, 1}, {1, 17}},
                                                       {{5, 1, 3}, {2, 1}},
                                                       {{2, 1, 3, 1}, {5, 1, 4}},
                                                       {{1, 1, 1}, {3}},
                                                       {{0}, {1}},
                                                       {{0, 3}, {3}},
                                                       {{3, 0, 2}, {2}},
                                                       {{2, 3, 33}, {2, 1, 33}},
                                                       {{2, 3, 33}, {1, 33}},
                                                       {{1000}, {1000}},
                                                       {{127, 65}, {65}},
                                                       {{127, 65}, {127, 1}}};

void add_binary(OpCases& cases, const std::string& op, BinaryOp apply, BinaryTruth truth,
                double low, double high) {
  const auto call = [=](const Vars& x) { return Vars{apply(x[0], x[1])}; };
  const auto expected = [=](const Arrays& x) { return Arrays{truth(x[0], x[1])}; };
  for (const auto& [a, b] : kShapePairs)
    cases.push_back(
        {.op = op, .inputs = {{a, -2, 2}, {b, low, high}}, .apply = call, .reference = expected});
  for (const Shape& b : {Shape{3, 41, 200}, Shape{200}, Shape{41, 1}, Shape{3, 1, 200}})
    cases.push_back({.op = op,
                     .inputs = {{{3, 41, 200}, -2, 2, true}, {b, low, high, b.rank() == 3}},
                     .apply = call,
                     .reference = expected});
}

void add_errors(ErrorCases& errors) {
  for (const auto& [op, apply] :
       {std::pair<std::string, BinaryOp>{"add", add}, {"sub", sub}, {"mul", mul}, {"div", div}}) {
    const auto on = [apply = apply](const Shape& a, const Shape& b) {
      return [=](const Context& at) { apply(Tensor(at, a), Tensor(at, b)); };
    };
    errors.push_back(refuses<ShapeError>(op, "equal or 1, got (2, 3) and (2)", on({2, 3}, {2})));
    errors.push_back(refuses<ShapeError>(op, "got (4, 1) and (3, 2, 5)", on({4, 1}, {3, 2, 5})));
    errors.push_back(refuses<UsageError>(op, "one Context", [apply = apply](const Context& at) {
      apply(Tensor(at, Shape{2}), Tensor(Context::cpu({.threads = 1}), Shape{2}));
    }));
    errors.push_back(refuses<UsageError>(op, "one tape", [apply = apply](const Context& at) {
      Tape first(at), second(at);
      apply(first.variable(Tensor(at, Shape{2})), second.variable(Tensor(at, Shape{2})));
    }));
  }
}

}  // namespace

void add_elementwise(OpCases& cases, ErrorCases& errors) {
  add_unary(cases, "exp", exp, -3, 3, [](double x) { return std::exp(x); });
  add_unary(cases, "sigmoid", sigmoid, -6, 6, [](double x) { return 1 / (1 + std::exp(-x)); });
  add_unary(cases, "silu", silu, -6, 6, [](double x) { return x / (1 + std::exp(-x)); });
  add_unary(cases, "softplus", softplus, -6, 6, [](double x) { return std::log1p(std::exp(x)); });
  add_unary(cases, "tanh", tanh, -2, 2, [](double x) { return std::tanh(x); });
  for (const auto& [low, high] : {std::pair{0.1, 2.0}, {-2.0, -0.1}})  // away from its kink
    add_unary(cases, "relu", relu, low, high, [](double x) { return std::max(x, 0.0); });
  add_unary(cases, "gelu", gelu, -4, 4,
            [](double x) { return x / 2 * std::erfc(-x / std::sqrt(2.0)); });
  add_unary(cases, "sin_turns", sin_turns, -1, 1, [](double x) { return std::sin(2 * M_PI * x); });
  add_unary(cases, "cos_turns", cos_turns, -1, 1, [](double x) { return std::cos(2 * M_PI * x); });
  add_unary(cases, "square", square, -3, 3, [](double x) { return x * x; });
  add_affine(cases);
  add_binary(cases, "add", add, reference::add, -2, 2);
  add_binary(cases, "sub", sub, reference::sub, -2, 2);
  add_binary(cases, "mul", mul, reference::mul, -2, 2);
  add_binary(cases, "div", div, reference::div, 0.5, 2);  // the divisor away from 0
  add_binary(cases, "div", div, reference::div, -2, -0.5);
  add_errors(errors);
}

}  // namespace fprnn::tests
