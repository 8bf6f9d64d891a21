#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/cells/fused.h>
#include <fprnn/models/solvers/sequential.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

namespace {

constexpr int64_t kRecorded = 32;  // steps that are recorded at once however few there are

Tensor step_of(const Tensor& x, int64_t t) { return slice(x, 1, t, t + 1).value(); }

// x[:, t] <- step (rows, 1, D), in x (rows, T, D).
void put_step(const Tensor& step, const Tensor& x, int64_t t) {
  const int64_t T = x.size(1), D = x.size(2);
  launch(x.context(), CopyRows{.from = step.data(),
                               .to = x.data() + t * D,
                               .rows = x.size(0),
                               .length = D,
                               .from_stride = D,
                               .to_stride = T * D});
}

// One step, y_t = f_t and the carry it leaves, as functions of y_t and the past.
struct RecordedStep {
  std::unique_ptr<Tape> tape;
  Var y;
  Past past;
  StepEquation equation;
  Var f, carry;
};

// What comes back from the step after; undefined behind the last step.
struct FromLater {
  Tensor dy, dcarry;
};

// A block of sequences going through time op by op, forwards to solve and backwards for the exact
// adjoint. Every op works on rows that do not meet, so results do not depend on how sequences are
// put into blocks.
class StepSweep {
 public:
  StepSweep(const SequenceProblem& problem, int64_t begin, int64_t end)
      : map_(problem.map),
        options_(problem.options),
        in_(problem.in.part(0, begin, end)),
        past_(problem.past.rows(begin, end)) {}

  struct Solved {
    Var carry;        // out of the last step
    Tensor residual;  // (rows), where wanted
  };
  // Solves all steps into y (rows, T, D). iterations (rows) become the most of any step. The residual
  // is that of the last step's own equation, which for a single step is f.
  Solved solve(const Tensor& y, const IntTensor& iterations, bool residual_wanted) const;
  // The roots of all steps' equations, each with the past that y gives it.
  Tensor roots_at(const Tensor& y) const;
  // v = g + J^T v for the solution y, written over g. iterations as above, where a step's own
  // equation is iterated. Steps are recorded a chunk at a time, about sqrt(T) of them, from carries
  // that a first pass saves.
  void adjoint(const Tensor& y, const Tensor& g, const IntTensor& iterations) const;

 private:
  FixedPointMap::Opened open(const Past& past, int64_t t) const {
    return map_.open(past, in_.part(1, t, t + 1));
  }
  Past past_of(const Tensor& y, int64_t t, const Var& carry) const;
  RecordedStep record_step(const Tensor& y, int64_t t, const Var& carry) const;
  void adjoint_step(const RecordedStep& step, const Tensor& g, int64_t t,
                    const IntTensor& iterations, FromLater& later) const;

  const FixedPointMap& map_;
  const SolverOptions& options_;
  const FixedPointInputs in_;
  const Past past_;
};

StepSweep::Solved StepSweep::solve(const Tensor& y, const IntTensor& iterations,
                                   bool residual_wanted) const {
  Past past = past_;
  Tensor residual;
  for (int64_t t = 0; t < y.size(1); ++t) {
    const FixedPointMap::Opened step = open(past, t);
    const IntTensor count = int_zeros(y.context(), {y.size(0)});
    const Tensor solved =
        map_.mixer.solve_step(step.equation, options_.of_a_step(), options_.max_iterations, count);
    raise_to(iterations, count);
    put_step(solved, y, t);
    if (residual_wanted)
      residual = largest_residuals(apply(step.equation, map_.mixer, solved).value(), solved);
    past = {solved.reshaped(solved.shape().without(1)), map_.close(step, solved)};
  }
  return {past.carry, residual};
}

Tensor StepSweep::roots_at(const Tensor& y) const {
  return map_.mixer.solve_step(map_.equations_at(y, past_, in_), options_.of_a_step(),
                               options_.max_iterations,
                               int_zeros(y.context(), {y.size(0) * y.size(1)}));
}

Past StepSweep::past_of(const Tensor& y, int64_t t, const Var& carry) const {
  return {t == 0 ? past_.y : Var(step_of(y, t - 1).reshaped(y.shape().without(1))), carry};
}

RecordedStep StepSweep::record_step(const Tensor& y, int64_t t, const Var& carry) const {
  auto tape = std::make_unique<Tape>(y.context());
  const auto variable = [&](const Var& x) {
    return x.defined() ? tape->variable(x.value()) : Var();
  };
  const Past before = past_of(y, t, carry);
  const Var solved = variable(step_of(y, t));
  const Past past{variable(before.y), variable(before.carry)};
  const FixedPointMap::Opened at = open(past, t);
  const Var f = apply(at.equation, map_.mixer, solved);
  return {std::move(tape), solved, past, at.equation, f, map_.close(at, solved)};
}

void StepSweep::adjoint(const Tensor& y, const Tensor& g, const IntTensor& iterations) const {
  const int64_t T = y.size(1);
  const int64_t chunk =
      std::max<int64_t>(kRecorded, std::llround(std::sqrt(static_cast<double>(T))));
  std::vector<Var> saved{past_.carry};  // before each chunk
  for (int64_t t = 0; t + chunk < T; t += chunk) {
    Var carry = saved.back();
    for (int64_t i = t; i < t + chunk; ++i)
      carry = map_.close(open(past_of(y, i, carry), i), step_of(y, i));
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
          ? map_.mixer.adjoint_step(step.equation, step.y.value(), w)
          : krylov_solve(
                {w, full(w.context(), w.shape(), 1)},
                [&](const Tensor& v) { return step.tape->vjp({step.f}, {v}, {step.y}).front(); },
                rule.tolerance, rule.max_iterations, iterations);
  put_step(v, g, t);

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

// visit(sweep, begin, counts) for all blocks of sequences; the counts of all (B).
template <class Visit>
IntTensor in_blocks(const SequenceProblem& problem, const Visit& visit) {
  const Context& context = problem.in.x.context();
  const int64_t B = problem.in.x.size(0);
  std::vector<IntTensor> counts(B);  // by where a block begins
  for_row_blocks(context, B, [&](int64_t begin, int64_t end) {
    counts[begin] = int_zeros(context, {end - begin});
    visit(StepSweep(problem, begin, end), begin, counts[begin]);
  });
  if (B > 0 && counts[0].elements() == B) return counts[0];
  std::vector<int32_t> all;
  for (int64_t b = 0; b < B; b += counts[b].elements()) {
    const std::vector<int32_t> some = counts[b].to_vector();
    all.insert(all.end(), some.begin(), some.end());
  }
  return IntTensor(context, {B}, all);
}

Tensor rows_of(const Tensor& x, int64_t begin, int64_t count) {
  return slice(x, 0, begin, begin + count).value();
}

// Those that are there, one below the other; undefined if none is.
Tensor joined(std::vector<Var> parts) {
  std::erase_if(parts, [](const Var& part) { return !part.defined(); });
  return parts.empty() ? Tensor() : concat(parts, 0).value();
}

// v = g + J^T v at the solution y. The problem is copied: it is that of now, whatever becomes of it
// before backward.
Adjoint sweep_back(const SequenceProblem& problem, const Tensor& y,
                   std::shared_ptr<const Trace> trace) {
  return [problem, y, trace = std::move(trace)](const Tensor& g) -> AdjointSolution {
    const FixedPointMap& map = problem.map;
    const bool direct = map.mixer.has_adjoint();
    if (const FusedForms* fused = map.cell.fused()) {
      const Tensor v = clone(g);
      const IntTensor iterations = int_zeros(g.context(), {g.size(0)});
      if (fused->sweep_back(map, problem.past, problem.in,
                            {y, v, iterations, problem.options.gradient, trace.get()}))
        return {v, direct ? IntTensor() : iterations};
    }
    const Tensor v(g.context(), g.shape());
    const IntTensor iterations =
        in_blocks(problem, [&](const StepSweep& sweep, int64_t begin, const IntTensor& counts) {
          const Tensor rows = rows_of(g, begin, counts.elements());
          sweep.adjoint(rows_of(y, begin, counts.elements()), rows, counts);
          put_rows(rows, v, begin);
        });
    return {v, direct ? IntTensor() : iterations};
  };
}

}  // namespace

SequenceSolution SequentialSolver::solve(const Map&, Tensor y) {
  const auto& [map, in, past, options, recorded, carry_wanted] = problem_;
  if (const FusedForms* fused = map.cell.fused()) {
    const SweepRequest to{y, options.of_a_step(), options.max_iterations, recorded, carry_wanted};
    if (const auto swept = fused->sweep(map, past, in, to)) {
      Solution solution{.y = y, .iterations = swept->iterations, .residual = swept->residual};
      solution.adjoint = sweep_back(problem_, y, swept->trace);
      if (swept->trace != nullptr)
        solution.trace = [map = map, past = past, like = in, trace = swept->trace](
                             const Var& solved, const Vars& inputs) -> Evaluated<Var> {
          const auto applied =
              map.cell.fused()->apply(map, solved, past, like.with(inputs), trace.get());
          return applied->f;
        };
      return {std::move(solution), Solver::sequential, swept->carry};
    }
  }
  // f of a single step is its equation, so nobody need make f's products with its weights again.
  const bool residual_wanted = y.size(1) == 1 && !recorded;
  std::vector<Var> carries(y.size(0)), residuals(y.size(0));  // by where a block begins
  const IntTensor iterations =
      in_blocks(problem_, [&](const StepSweep& sweep, int64_t begin, const IntTensor& counts) {
        const Tensor rows(y.context(), y.shape().with(0, counts.elements()));
        const auto [carry, residual] = sweep.solve(rows, counts, residual_wanted);
        carries[begin] = carry;
        residuals[begin] = residual;
        put_rows(rows, y, begin);
      });
  const bool any = y.elements() > 0;
  return {{.y = y,
           .iterations = iterations,
           .residual = any ? joined(std::move(residuals)) : Tensor(),
           .adjoint = sweep_back(problem_, y, nullptr)},
          Solver::sequential,
          any ? joined(std::move(carries)) : Tensor()};
}

Tensor SequentialSolver::roots_at(const Tensor& y) const {
  const Tensor roots(y.context(), y.shape());
  in_blocks(problem_, [&](const StepSweep& sweep, int64_t begin, const IntTensor& counts) {
    put_rows(sweep.roots_at(rows_of(y, begin, counts.elements())), roots, begin);
  });
  return roots;
}

}  // namespace fprnn
