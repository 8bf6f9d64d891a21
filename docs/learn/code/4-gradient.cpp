// Chapter 4: the gradient of a solution.
#include <fprnn/autograd/fixed_point.h>
#include <fprnn/autograd/picard.h>
#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/adamw.h>
#include <fprnn/models/modules.h>
#include <fprnn/ops/ops.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "drawing.h"
#include "numbers.h"
#include "program.h"

namespace {

using namespace fprnn;
using learn::Numbers, learn::dot, learn::length, learn::numbers_of, learn::plus, learn::print;

// [scalar]
// y = w y + x with w = 0.5 and x = 1, so y = 2. Gradients of y by each rule, and by differences.
void print_scalar() {
  const double w = 0.5, x = 1, y = x / (1 - w);
  const auto line = [](const char* rule, double to_x, double to_w) {
    std::printf("%-12s dy/dx %.3f  dy/dw %.3f\n", rule, to_x, to_w);
  };
  double v = 1;  // one application of f: df/dx = 1, df/dw = y
  line("one-step", v, v * y);
  for (const char* rule : {"neumann:1", "neumann:2", "neumann:3"}) {
    v = 1 + w * v;
    line(rule, v, v * y);
  }
  v = 1 / (1 - w);
  line("exact", v, v * y);
  const double step = 1e-4;
  line("differences", ((x + step) / (1 - w) - (x - step) / (1 - w)) / (2 * step),
       (x / (1 - w - step) - x / (1 - w + step)) / (2 * step));
}
// [/scalar]

// [neumann]
// v = g + J^T g + .. + (J^T)^K g, by v <- g + J^T v.
Numbers neumann(const Numbers& g, int K,
                const std::function<Numbers(const Numbers&)>& times_jacobian) {
  Numbers v = g;
  for (int k = 0; k < K; ++k) v = plus(g, 1, times_jacobian(v));
  return v;
}
// [/neumann]

const Numbers kU = {0.6, 0.8};

// J v for the step of chapter 3, whose J = factor u u^T is its own transpose.
std::function<Numbers(const Numbers&)> jacobian(double factor) {
  return [factor](const Numbers& v) { return plus({0, 0}, factor * dot(kU, v), kU); };
}

void print_neumann() {
  for (const int K : {0, 1, 2, 3, 30})
    print(("K " + std::to_string(K)).c_str(), neumann({1, 0}, K, jacobian(-0.5)));
}

// The cell of the rest of the chapter: y_t = tanh(W y_{t-1} + V y_t + x_t).

// [cell]
// f(y) for all steps at once; inputs are x (B, T, D), W (D, D) and V (D, D).
Evaluated<Var> cell(const Var& y, const Vars& inputs) {
  const Var from_past = linear(shift(y), inputs[1]), from_now = linear(y, inputs[2]);
  return tanh(add(add(from_past, from_now), inputs[0]));
}

// The solution as an op: found by iteration, differentiated by the given rule.
Var solution(const Vars& inputs, const GradientRule& rule) {
  const Tensor start = zeros(inputs[0].context(), inputs[0].shape());
  const real tolerance = real(2e-6);
  const Solve solve = [&](const Map& f, const Tensor& from) {
    return picard(f, from, {.tolerance = tolerance, .max_iterations = 200});
  };
  return fixed_point(cell, inputs, start, solve, {.tolerance = tolerance, .gradient = rule}).y;
}
// [/cell]

constexpr int64_t kT = 8, kD = 3;

// x, W and V; |V| is small enough for a contraction.
std::vector<Tensor> cell_inputs(const Context& context) {
  Rng rng{.seed = 5};
  return {uniform(context, {1, kT, kD}, -1, 1, rng), uniform(context, {kD, kD}, -1, 1, rng),
          uniform(context, {kD, kD}, real(-0.3), real(0.3), rng)};
}

// [differences]
// The loss, the sum of the last state, by plain loops; and its derivative by each x, by differences.
double loss(const Numbers& x, const Numbers& W, const Numbers& V) {
  Numbers before(kD), y(kD);
  for (int64_t t = 0; t < kT; ++t, before = y)
    for (int iteration = 0; iteration < 200; ++iteration) {
      Numbers next(kD);
      for (int64_t i = 0; i < kD; ++i) {
        double sum = x[t * kD + i];
        for (int64_t j = 0; j < kD; ++j) sum += W[i * kD + j] * before[j] + V[i * kD + j] * y[j];
        next[i] = std::tanh(sum);
      }
      y = next;
    }
  return y[0] + y[1] + y[2];
}

Numbers differences(Numbers x, const Numbers& W, const Numbers& V) {
  constexpr double kStep = 1e-4;
  Numbers gradient;
  for (double& number : x) {
    const double value = number;
    number = value + kStep;
    const double above = loss(x, W, V);
    number = value - kStep;
    const double below = loss(x, W, V);
    number = value;
    gradient.push_back((above - below) / (2 * kStep));
  }
  return gradient;
}
// [/differences]

// [rules]
// The gradient of the same loss with respect to x by a rule of the library.
Numbers gradient_by(const char* rule, const std::vector<Tensor>& values) {
  Tape tape(values[0].context());
  Vars inputs;
  for (const Tensor& value : values) inputs.push_back(tape.variable(value));
  const Var y = solution(inputs, gradient_named(rule));
  const Var last = sum(slice(y, 1, kT - 1, kT));
  return numbers_of(tape.vjp({last}, {full(tape.context(), {}, 1)}, {inputs[0]})[0]);
}

void print_rules() {
  const std::vector<Tensor> values = cell_inputs(Context::cpu());
  const Numbers right =
      differences(numbers_of(values[0]), numbers_of(values[1]), numbers_of(values[2]));
  for (const char* rule : {"one-step", "neumann:1", "neumann:2", "neumann:4", "exact"}) {
    const Numbers gradient = gradient_by(rule, values);
    const double error = length(plus(gradient, -1, right)) / length(right);
    const double cosine = dot(gradient, right) / (length(gradient) * length(right));
    int steps = 0;
    for (int64_t t = 0; t < kT; ++t) {
      const auto at = gradient.begin() + t * kD;
      steps += length({at, at + kD}) > 0;
    }
    std::printf("%-10s relative error %.2f  cosine %.2f  reaches %d of %d steps\n", rule, error,
                cosine, steps, static_cast<int>(kT));
  }
}
// [/rules]

// [memory]
// The most memory in use while a gradient is made, in states (B, T, D).
double peak(int unrolled) {
  const Context context = Context::cpu({.threads = 1});
  Rng rng{.seed = 1};
  const int64_t B = 4, T = 64, D = 64;
  Tape tape(context);
  const Vars inputs = {tape.variable(normal(context, {B, T, D}, 0, real(0.1), rng)),
                       tape.variable(uniform(context, {D, D}, real(-0.01), real(0.01), rng)),
                       tape.variable(uniform(context, {D, D}, real(-0.01), real(0.01), rng))};
  Var y = zeros(context, {B, T, D});
  if (unrolled == 0) y = solution(inputs, gradient_named("exact"));
  for (int iteration = 0; iteration < unrolled; ++iteration) y = cell(y, inputs).f;
  tape.vjp({sum(y)}, {full(context, {}, 1)}, inputs);
  const double state = static_cast<double>(B * T * D * static_cast<int64_t>(sizeof(real)));
  return static_cast<double>(context.memory().statistics().peak_bytes) / state;
}

void print_memory() {
  for (const int unrolled : {10, 20, 40})
    std::printf("%d iterations recorded: %.0f states\n", unrolled, peak(unrolled));
  std::printf("the solution recorded:  %.0f states\n", peak(0));
}
// [/memory]

// [train]
// The first input is 1 or -1, the others are noise: say the first at the end. Returns the mean
// square error of the last of `steps` batches; 1 is what a constant 0 gets.
double trained(const char* rule, int steps) {
  const Context context = Context::cpu();
  Rng rng{.seed = 2};
  Module model;
  const Init init{context, rng};
  Linear in(model, "in", init, 1, 8), out(model, "out", init, 8, 1);
  Linear past(model, "past", init, 8, 8, {.shrink = 4});  // at first little is kept
  const Tensor now = init.uniform({8, 8}, 0.05);          // stays as it is, so that f contracts
  AdamW adamw(model.parameters(), {});
  double error = 0;
  for (int step = 0; step < steps; ++step) {
    Tape tape(context);
    const Tensor noise = normal(context, {64, 7, 1}, 0, real(0.3), rng);
    Numbers signs = numbers_of(uniform(context, {64, 1, 1}, -1, 1, rng));
    for (double& sign : signs) sign = sign < 0 ? -1 : 1;
    const Var first = tape.constant(learn::tensor_of(context, {64, 1, 1}, signs));
    const Var x = in.forward(concat({first, tape.constant(noise)}, 1));  // (64, 8, 8)
    const Var y = solution({x, tape.leaf(past.weight), tape.constant(now)}, gradient_named(rule));
    const Var answer = out.forward(slice(y, 1, 7, 8));  // (64, 1, 1)
    const Var loss = mean(square(sub(answer, first)));
    error = static_cast<double>(loss.value().to_vector()[0]);
    tape.backward(loss);
    adamw.step(1e-2, 1);
  }
  return error;
}

void print_train() {
  for (const char* rule : {"one-step", "neumann:5", "exact"}) {
    const double error = trained(rule, 400);
    std::printf("%-10s %s\n", rule,
                error < 0.1   ? "learnt: error below 0.1"
                : error > 0.8 ? "not learnt: error above 0.8"
                              : "between");
  }
}
// [/train]

std::string draw_neumann() {
  fprnn::Panel panel{.title = "Relative error of v after K terms",
                     .x_label = "K",
                     .x = {0, 20},
                     .y = {1e-8, 10, 10},
                     .curves = {}};
  const std::vector<std::pair<double, std::string>> factors = {
      {0.9, "factor 0.9"}, {0.5, "factor 0.5"}, {0.2, "factor 0.2"}};
  learn::Drawing drawing(680, 330, panel.title);
  for (size_t i = 0; i < factors.size(); ++i) {
    fprnn::Curve curve{.points = {}, .style = i};
    const double factor = factors[i].first;
    const Numbers exact = plus(kU, factor / (1 - factor), kU);  // g = u
    for (int K = 0; K <= 20; ++K) {
      const Numbers v = neumann(kU, K, jacobian(factor));
      const double error = length(plus(v, -1, exact)) / length(exact);
      if (error >= panel.y.least) curve.points.push_back({.x = static_cast<double>(K), .y = error});
    }
    panel.curves.push_back(curve);
    drawing.legend({520, 80 + 28.0 * static_cast<double>(i)}, curve, factors[i].second);
  }
  drawing.chart(panel, {16, 12, 490, 310});
  return drawing.svg();
}

std::string draw_tapes() {
  learn::Drawing drawing(680, 250, "What is recorded: every iteration, or one application");
  const auto label = [&](double y, const std::string& text) {
    drawing.text({20, y}, text, learn::Anchor::start, 14);
  };
  label(30, "Unrolled: every iteration is on the tape, and its memory is kept");
  for (int l = 0; l < 7; ++l) {
    const double x = 20 + 88.0 * l;
    drawing.box({x, 48, 56, 34}, l < 5 ? "f" : l == 5 ? ".." : "f", learn::Ink::orange);
    if (l < 6) drawing.arrow({x + 56, 65}, {x + 86, 65});
  }
  drawing.text({648, 70}, "y");
  drawing.arrow({604, 65}, {636, 65});
  label(134, "Implicit: found without a tape, then one application is recorded");
  for (int l = 0; l < 5; ++l) {
    const double x = 20 + 88.0 * l;
    drawing.box({x, 152, 56, 34}, l < 3 ? "f" : l == 3 ? ".." : "f");
    drawing.arrow({x + 56, 169}, {x + 86, 169});
  }
  drawing.text({472, 174}, "y");
  drawing.arrow({484, 169}, {514, 169});
  drawing.box({516, 152, 56, 34}, "f", learn::Ink::orange);
  drawing.arrow({572, 169}, {604, 169});
  drawing.text({624, 174}, "f(y)");
  drawing.text({20, 224}, "orange: recorded", learn::Anchor::start, 13, learn::Ink::orange);
  drawing.text({150, 224}, "grey: forgotten at once", learn::Anchor::start, 13, learn::Ink::grey);
  return drawing.svg();
}

}  // namespace

int main(int argc, char** argv) {
  return learn::run(argc, argv,
                    {{"scalar", print_scalar},
                     {"neumann", print_neumann},
                     {"rules", print_rules},
                     {"memory", print_memory},
                     {"train", print_train}},
                    {{"4-gradient-neumann", draw_neumann}, {"4-gradient-tapes", draw_tapes}});
}
