#include <fprnn/core/vector.h>
#include <fprnn/models/solvers/step_sweep.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

namespace {

constexpr int64_t kRecorded = 32;  // steps that are recorded at once however few there are

// x[begin.., t] <- rows (rows, 1, D), in x (B, T, D).
void put(const Tensor& rows, const Tensor& x, int64_t begin, int64_t t) {
  const int64_t T = x.size(1), D = x.size(2);
  launch(x.context(), CopyRows{.from = rows.data(),
                               .to = x.data() + (begin * T + t) * D,
                               .rows = rows.size(0),
                               .length = D,
                               .from_stride = D,
                               .to_stride = T * D});
}

}  // namespace

StepSweep::StepSweep(const SequenceProblem& problem, int64_t begin, int64_t end)
    : map_(problem.map),
      options_(problem.options),
      in_(problem.in.part(0, begin, end)),
      past_(problem.past.rows(begin, end)),
      begin_(begin),
      rows_(end - begin) {}

Var StepSweep::solve(const Tensor& y, const IntTensor& iterations) const {
  Past past = past_;
  for (int64_t t = 0; t < y.size(1); ++t) {
    const FixedPointMap::Opened step = map_.open(past, in_.part(1, t, t + 1));
    const IntTensor count = int_zeros(y.context(), {rows_});
    const Tensor solved =
        map_.mixer.solve_step(step.equation, options_.of_a_step(), options_.max_iterations, count);
    raise_to(iterations, count);
    past.carry = map_.close(step, solved);
    put(solved, y, begin_, t);
    past.y = solved.reshaped(solved.shape().without(1));
  }
  return past.carry;
}

void StepSweep::roots_at(const Tensor& y, const Tensor& roots) const {
  const Tensor own = slice(y, 0, begin_, begin_ + rows_).value();
  const IntTensor counts = int_zeros(y.context(), {rows_ * y.size(1)});
  const Tensor found = map_.mixer.solve_step(map_.equations_at(own, past_, in_),
                                             options_.of_a_step(), options_.max_iterations, counts);
  put_rows(found, roots, begin_);
}

Tensor StepSweep::step_of(const Tensor& x, int64_t t) const {
  const int64_t T = x.size(1), D = x.size(2);
  const Tensor step(x.context(), {rows_, 1, D});
  launch(x.context(), CopyRows{.from = x.data() + (begin_ * T + t) * D,
                               .to = step.data(),
                               .rows = rows_,
                               .length = D,
                               .from_stride = T * D,
                               .to_stride = D});
  return step;
}

Past StepSweep::past_of(const Tensor& y, int64_t t, const Var& carry) const {
  return {t == 0 ? past_.y : Var(step_of(y, t - 1).reshaped({rows_, y.size(2)})), carry};
}

// One step, y_t = f_t and the carry it leaves, as functions of y_t and the past.
struct StepSweep::RecordedStep {
  std::unique_ptr<Tape> tape;
  Var y;
  Past past;
  FixedPointMap::Opened at;
  Var f, carry;
};

StepSweep::RecordedStep StepSweep::record_step(const Tensor& y, int64_t t, const Var& carry) const {
  auto tape = std::make_unique<Tape>(y.context());
  const auto variable = [&](const Var& x) {
    return x.defined() ? tape->variable(x.value()) : Var();
  };
  const Past before = past_of(y, t, carry);
  const Var solved = variable(step_of(y, t));
  const Past past{variable(before.y), variable(before.carry)};
  const FixedPointMap::Opened at = map_.open(past, in_.part(1, t, t + 1));
  const Var f = apply(at.equation, map_.mixer, solved);
  return {std::move(tape), solved, past, at, f, map_.close(at, solved)};
}

// What comes back from the step after; undefined behind the last step.
struct StepSweep::FromLater {
  Tensor dy, dcarry;
};

void StepSweep::adjoint(const Tensor& y, const Tensor& g, const IntTensor& iterations) const {
  const int64_t T = y.size(1);
  const int64_t chunk =
      std::max<int64_t>(kRecorded, std::llround(std::sqrt(static_cast<double>(T))));
  std::vector<Var> saved{past_.carry};  // before each chunk
  for (int64_t t = 0; t + chunk < T; t += chunk) {
    Var carry = saved.back();
    for (int64_t i = t; i < t + chunk; ++i) {
      const auto step = map_.open(past_of(y, i, carry), in_.part(1, i, i + 1));
      carry = map_.close(step, step_of(y, i));
    }
    saved.push_back(carry);
  }
  FromLater later;
  for (int64_t first = (static_cast<int64_t>(saved.size()) - 1) * chunk; first >= 0;
       first -= chunk) {
    const int64_t end = std::min(T, first + chunk);
    std::vector<RecordedStep> steps;
    Var carry = saved[first / chunk];
    for (int64_t t = first; t < end; ++t) {
      steps.push_back(record_step(y, t, carry));
      carry = steps.back().carry.value();
    }
    for (int64_t t = end - 1; t >= first; --t)
      adjoint_step(steps[t - first], g, t, iterations, later);
  }
}

void StepSweep::adjoint_step(const RecordedStep& step, const Tensor& g, int64_t t,
                             const IntTensor& iterations, FromLater& later) const {
  // What reaches y_t besides its own equation: g_t, the next step's y_{t-1} and the carry.
  Tensor w = step_of(g, t);
  if (later.dy.defined()) {
    w = add(w, later.dy.reshaped(w.shape())).value();
    w = add(w, step.tape->vjp({step.carry}, {later.dcarry}, {step.y}).front()).value();
  }
  // v = w + (df_t / dy_t)^T v.
  const GradientRule& rule = options_.gradient;
  const Tensor v =
      map_.mixer.has_adjoint()
          ? map_.mixer.adjoint_step(step.at.equation, step.y.value(), w)
          : iterate_rows(
                [&](const Tensor& v) {
                  return add(w, step.tape->vjp({step.f}, {v}, {step.y}).front()).value();
                },
                w, rule.tolerance, rule.max_iterations, iterations);
  put(v, g, begin_, t);

  Vars outputs{step.f}, inputs;
  std::vector<Tensor> seeds{v};
  if (later.dcarry.defined()) {
    outputs.push_back(step.carry);
    seeds.push_back(later.dcarry);
  }
  if (step.past.y.defined()) inputs.push_back(step.past.y);
  if (step.past.carry.defined()) inputs.push_back(step.past.carry);
  const std::vector<Tensor> gradients = step.tape->vjp(outputs, seeds, inputs);
  if (step.past.y.defined()) later.dy = gradients.front();
  if (step.past.carry.defined()) later.dcarry = gradients.back();
}

}  // namespace fprnn
