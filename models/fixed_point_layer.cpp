#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/kronecker_solve.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/norm.h>

#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <span>

namespace fprnn {

Solver solver_named(std::string_view name) {
  for (const Solver solver :
       {Solver::parallel, Solver::sequential, Solver::patience, Solver::automatic})
    if (name == name_of(solver)) return solver;
  throw ValueError("solver", "solvers are auto, parallel, sequential and patience",
                   std::array{describe(name)});
}

std::string_view name_of(Solver solver) {
  return solver == Solver::parallel     ? "parallel"
         : solver == Solver::sequential ? "sequential"
         : solver == Solver::patience   ? "patience"
                                        : "auto";
}

int64_t draw_iteration_cap(int64_t shape, double scale, Rng& rng) {
  require<ValueError>(shape >= 1 && scale > 0 && std::isfinite(scale), "solver",
                      "Gamma's shape must be at least 1 and its scale positive", shape, scale);
  const Rng fresh = rng.next_stream();
  double sum = 0;  // of as many exponentials as the shape says
  for (int64_t i = 0; i < shape; ++i) sum -= std::log1p(-static_cast<double>(fresh.uniform(i)));
  constexpr double kMost = 1e9;
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(std::min(scale * sum, kMost))));
}

bool FixedPointLayer::recordable() const {
  return solver.solver == Solver::sequential && solver.unconverged == Unconverged::accept;
}

Var FixedPointLayer::forward(const Var& u) {
  FixedPointState state;
  state.wanted = false;
  return forward(u, state);
}

Var FixedPointLayer::forward(const Var& u, LayerState& state) {
  require<UsageError>(state.size() != 1, "fixed_point", "a state must be one of such a layer");
  FixedPointState carried;
  if (!state.empty())
    carried = {{state.begin(), state.end() - 2}, state.end()[-2], state.end()[-1], true};
  const Var out = forward(u, carried);
  state = std::move(carried.convolutions);
  state.insert(state.end(), {carried.y, carried.scan});
  return out;
}

Var FixedPointLayer::forward(const Var& u, FixedPointState& state) {
  if (u.shape().rank() == 3) {
    const std::vector<Shape> shapes = state_shapes(u.size(0));
    const std::span convolutions(shapes.begin(), shapes.end() - 2),
        last(shapes.end() - 2, shapes.end());
    // After no step at all there are the convolutions' states alone.
    require<UsageError>(!state.y.defined() || state.convolutions.size() == convolutions.size(),
                        "fixed_point", "a state must be one of this layer: convolutions",
                        state.convolutions.size(), convolutions.size());
    check_state("fixed_point", state.convolutions, convolutions);
    check_state("fixed_point", std::array{state.y, state.scan}, last);
  }
  FixedPointState next = state;
  const Var out = evaluate(u, next);
  state = std::move(next);
  return out;
}

void draw_kept_states(const StateDropout& dropout, const Tensor& keep) {
  check(dropout);
  Rng rng = dropout.rng;
  launch(keep.context(), RandomFill{.out = keep.data(),
                                    .count = keep.elements(),
                                    .rng = rng.next_stream(),
                                    .distribution = Distribution::keep,
                                    .offset = 0,
                                    .scale = 1,
                                    .rate = dropout.rate});
}

Var FixedPointLayer::kept_states(const Var& like) const {
  const Shape shape = like.shape().without(-1);
  if (state_dropout.keep.defined()) {
    require(state_dropout.keep.shape() == shape, "state_dropout", "keep must be (B, T)",
            state_dropout.keep.shape(), like.shape());
    return state_dropout.keep;
  }
  if (state_dropout.rate == 0) return {};
  const Tensor keep(like.context(), shape);
  draw_kept_states(state_dropout, keep);
  return keep;
}

namespace {

using Vars = std::vector<Var>;

Vars values_of(const Vars& vars) {
  Vars values;
  for (const Var& var : vars) values.push_back(var.defined() ? Var(var.value()) : Var());
  return values;
}

Vars part_of(const Vars& signals, int axis, int64_t begin, int64_t end) {
  Vars parts;
  for (const Var& signal : signals)
    parts.push_back(signal.defined() ? slice(signal, axis, begin, end) : Var());
  return parts;
}

Var rows_of(const Tensor& x, int64_t begin, int64_t end) {
  return x.defined() ? slice(x, 0, begin, end) : Var();
}

// x[begin .. begin + rows, t] as (rows, 1, D), of x (B, T, D).
Tensor taken(const Tensor& x, int64_t begin, int64_t rows, int64_t t) {
  const int64_t T = x.size(1), D = x.size(2);
  const Tensor some(x.context(), {rows, 1, D});
  launch(x.context(), CopyRows{.from = x.data() + (begin * T + t) * D,
                               .to = some.data(),
                               .rows = rows,
                               .length = D,
                               .from_stride = T * D,
                               .to_stride = D});
  return some;
}

// Whether steps are solved in as many numbers as the mixer's rank, and their adjoint at once.
bool is_low_rank(const Mixer& mixer) {
  const auto kind = mixer.sweep();
  return kind.has_value() && kind->rank > 0;
}

// x[begin..] <- rows (rows, T, D), in x (B, T, D).
void put(const Tensor& rows, const Tensor& x, int64_t begin) {
  const int64_t length = x.size(1) * x.size(2);
  launch(x.context(), CopyRows{.from = rows.data(),
                               .to = x.data() + begin * length,
                               .rows = 1,
                               .length = rows.elements(),
                               .from_stride = 0,
                               .to_stride = 0});
}

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

// A block of sequences going through time, forwards to solve or backwards for the exact adjoint. Every op works
// on rows that do not meet, so results do not depend on how sequences are put into blocks.
class FixedPointLayer::Sweep {
 public:
  Sweep(const FixedPointLayer& layer, const Vars& signals, const Vars& weights, int64_t begin,
        int64_t end)
      : layer_(layer),
        signals_(part_of(signals, 0, begin, end)),
        weights_(weights),
        begin_(begin),
        rows_(end - begin) {}

  // Solves all steps into y; the state comes in and goes out.
  // iterations (rows) become the most of any step.
  void solve(const Tensor& y, Var& previous, Var& scan, const IntTensor& iterations) const {
    for (int64_t t = 0; t < y.size(1); ++t) {
      const Vars now = part_of(signals_, 1, t, t + 1);
      const LocalEquation at = layer_.local_equation({}, previous, scan, now, weights_);
      const Var solved = solve_local(at, iterations);
      scan = layer_.advance(solved, at, scan, now, weights_);
      put(solved.value(), y, begin_, t);
      previous = reshape(solved, solved.shape().without(1));
    }
  }

  // The roots of all steps' equations, each with the past that y gives it.
  Var roots(const Var& y, const Var& previous, const Var& scan) const {
    const LocalEquation at = layer_.local_equation(y, previous, scan, signals_, weights_);
    return solve_local(at, int_zeros(y.context(), {rows_ * y.size(1)}));
  }

  // v = g + J^T v for the solution y, written over g. Steps are recorded a chunk at a time, about
  // sqrt(T) of them, from states that a first pass keeps.
  void adjoint(const Tensor& y, const Tensor& g, const GradientRule& rule, const Var& previous,
               const Var& scan, const IntTensor& iterations) const {
    const int64_t T = y.size(1);
    const auto step_of = [&](int64_t t) { return Var(taken(y, begin_, rows_, t)); };
    const int64_t chunk =
        std::max<int64_t>(kRecorded, std::llround(std::sqrt(static_cast<double>(T))));
    const auto before = [&](int64_t t) {
      return t == 0 ? previous : reshape(step_of(t - 1), {rows_, y.size(2)});
    };
    std::vector<Var> kept{scan};
    for (int64_t t = 0; t + chunk < T; t += chunk) {
      Var state = kept.back();
      for (int64_t i = t; i < t + chunk; ++i) {
        const Vars now = part_of(signals_, 1, i, i + 1);
        const LocalEquation at = layer_.local_equation({}, before(i), state, now, weights_);
        state = layer_.advance(step_of(i), at, state, now, weights_);
      }
      kept.push_back(state);
    }
    Carried carried;
    for (int64_t first = (static_cast<int64_t>(kept.size()) - 1) * chunk; first >= 0;
         first -= chunk) {
      std::vector<RecordedStep> steps;
      Var state = kept[first / chunk];
      for (int64_t t = first; t < std::min(T, first + chunk); ++t) {
        steps.push_back(record_step(step_of(t), before(t), state, t));
        state = steps.back().scan.value();
      }
      for (int64_t t = std::min(T, first + chunk) - 1; t >= first; --t)
        adjoint_step(steps[t - first], g, t, rule, iterations, carried);
    }
  }

 private:
  static Tensor value_or_none(const Var& x) { return x.defined() ? x.value() : Tensor(); }
  LocalProblem low_rank(const LocalEquation& at) const {
    const MixerOptions& mixer = layer_.mixer().options();
    return {.u = at.q.first.value(),
            .alpha = at.q.second.value(),
            .offset = at.offset.value(),
            .gain = at.gain.value(),
            .weight = value_or_none(at.norm_weight),
            .bias = value_or_none(at.norm_bias),
            .scale = mixer.scale,
            .in_order = mixer.kind == MixerKind::householder,
            .eps = mixer.eps};
  }
  KroneckerProblem full_rank(const LocalEquation& at) const {
    const MixerOptions& mixer = layer_.mixer().options();
    return {.left = at.q.first.value(),
            .right = at.q.second.value(),
            .offset = at.offset.value(),
            .gain = at.gain.value(),
            .weight = value_or_none(at.norm_weight),
            .bias = value_or_none(at.norm_bias),
            .scale = mixer.scale,
            .eps = mixer.eps};
  }
  // f at y, given offset and gain.
  Var apply(const LocalEquation& at, const Var& y) const {
    const Var fed_back = sub(y, layer_.mixer().apply(at.q, y));
    const Var sum = add(at.offset, mul(at.gain, fed_back));
    return at.norm_weight.defined()
               ? layer_norm(sum, at.norm_weight, at.norm_bias, layer_.mixer().options().eps)
               : sum;
  }
  // By iteration from y, row by row; the step is halved where it does not help. count: (rows).
  static Tensor iterated(const Map& map, const Tensor& y, real tolerance, int64_t cap,
                         const IntTensor& count) {
    const Shape rows{y.elements() / y.size(-1), 1, y.size(-1)};
    const Map by_rows = [&](const Tensor& x) {
      return map(x.reshaped(y.shape())).f.reshaped(rows);
    };
    const Solution solution = picard(
        by_rows, y.reshaped(rows),
        {.tolerance = tolerance, .max_iterations = cap, .backwards = true, .shrink_after = 16});
    raise_to(count, solution.counted);
    return solution.y.reshaped(y.shape());
  }
  // iterations (rows) become the most of what they are and what this takes.
  Var solve_local(const LocalEquation& at, const IntTensor& iterations) const {
    const real tolerance = layer_.solver.of_a_step();
    const int64_t cap = layer_.solver.max_iterations;
    const Context& context = iterations.context();
    if (!layer_.mixer().sweep().has_value())
      return iterated([&](const Tensor& y) { return apply(at, y).value(); },
                      zeros(context, at.offset.shape()), tolerance, cap, iterations);
    const IntTensor count(context, iterations.shape());
    const Tensor y = is_low_rank(layer_.mixer())
                         ? local_solve(low_rank(at), tolerance, cap, count)
                         : kronecker_solve(full_rank(at), tolerance, cap, count);
    raise_to(iterations, count);
    return y;
  }

  // One step, y_t = f_t and the state it leaves, as functions of y_t and what came in.
  struct RecordedStep {
    std::unique_ptr<Tape> tape;
    Var y, previous, state;
    LocalEquation at;
    Var f, scan;
  };
  RecordedStep record_step(const Var& y, const Var& previous, const Var& state, int64_t t) const {
    RecordedStep step;
    step.tape = std::make_unique<Tape>(y.context());
    const auto variable = [&](const Var& x) {
      return x.defined() ? step.tape->variable(x.value()) : Var();
    };
    step.y = variable(y);
    step.previous = variable(previous);
    step.state = variable(state);
    const Vars now = part_of(signals_, 1, t, t + 1);
    step.at = layer_.local_equation({}, step.previous, step.state, now, weights_);
    step.f = apply(step.at, step.y);
    step.scan = layer_.advance(step.y, step.at, step.state, now, weights_);
    return step;
  }

  // What comes back from the step after.
  struct Carried {
    Tensor dprevious, dscan;  // undefined behind the last step
  };
  void adjoint_step(const RecordedStep& step, const Tensor& g, int64_t t, const GradientRule& rule,
                    const IntTensor& iterations, Carried& carried) const {
    // What reaches y_t besides its own equation: g_t, the next step's y_{t-1} and the scan.
    Tensor w = taken(g, begin_, rows_, t);
    if (carried.dprevious.defined()) {
      w = add(w, carried.dprevious.reshaped(w.shape())).value();
      w = add(w, step.tape->vjp({step.scan}, {carried.dscan}, {step.y}).front()).value();
    }
    const Tensor v = solve_local_adjoint(w, step, rule, iterations);
    put(v, g, begin_, t);

    Vars outputs{step.f}, inputs;
    std::vector<Tensor> seeds{v};
    if (carried.dscan.defined()) {
      outputs.push_back(step.scan);
      seeds.push_back(carried.dscan);
    }
    if (step.previous.defined()) inputs.push_back(step.previous);
    if (step.state.defined()) inputs.push_back(step.state);
    const std::vector<Tensor> gradients = step.tape->vjp(outputs, seeds, inputs);
    if (step.previous.defined()) carried.dprevious = gradients.front();
    if (step.state.defined()) carried.dscan = gradients.back();
  }

  // v = w + (df_t / dy_t)^T v. iterations (rows) become the most of any step.
  Tensor solve_local_adjoint(const Tensor& w, const RecordedStep& step, const GradientRule& rule,
                             const IntTensor& iterations) const {
    if (is_low_rank(layer_.mixer())) return local_adjoint(low_rank(step.at), step.y.value(), w);
    const auto map = [&](const Tensor& v) {
      return add(w, step.tape->vjp({step.f}, {v}, {step.y}).front()).value();
    };
    return iterated(map, w, rule.tolerance, rule.max_iterations, iterations);
  }

  static constexpr int64_t kRecorded = 32;  // steps that are recorded at once however few there are
  const FixedPointLayer& layer_;
  const Vars signals_;
  const Vars& weights_;
  const int64_t begin_, rows_;
};

namespace {

// visit(begin, end) for blocks of sequences: on the CPU each on one thread through all of time, on
// a GPU all together.
template <class Visit>
void for_blocks(const Context& context, int64_t B, const Visit& visit) {
  if (context.device() == DeviceKind::cuda) {
    if (B > 0) visit(0, B);
    return;
  }
  constexpr int64_t kRows = 32;  // their states fit the second-level cache
  const int64_t rows = std::min(kRows, std::max<int64_t>(1, pieces(B, context.threads())));
  parallel_tasks(Cpu{context}, pieces(B, rows),
                 [&](int64_t i) { visit(i * rows, std::min(B, (i + 1) * rows)); });
}

// The counts of all blocks, each by where it begins, as (B).
IntTensor together(const Context& context, const std::vector<IntTensor>& blocks) {
  const auto B = static_cast<int64_t>(blocks.size());
  if (B > 0 && blocks[0].elements() == B) return blocks[0];
  std::vector<int32_t> all;
  for (int64_t b = 0; b < B; b += blocks[b].elements()) {
    const std::vector<int32_t> some = blocks[b].to_vector();
    all.insert(all.end(), some.begin(), some.end());
  }
  return IntTensor(context, {B}, all);
}

}  // namespace

Solution FixedPointLayer::solve_sequential(const Vars& signals, const Vars& weights,
                                           const Tensor& y, bool recorded,
                                           std::vector<Tensor>& kept,
                                           FixedPointState& state) const {
  const int64_t B = y.size(0);
  const Swept swept{y, int_zeros(y.context(), {B}), Tensor(y.context(), {B}), recorded, kept};
  if (solve_on_gpu(signals, weights, swept, state))
    return {.y = y, .iterations = {}, .counted = swept.iterations, .residual = swept.residual};
  std::vector<IntTensor> counts(B);  // by where a block begins
  std::vector<Var> scans(B);
  for_blocks(y.context(), B, [&](int64_t begin, int64_t end) {
    counts[begin] = int_zeros(y.context(), {end - begin});
    Var previous = rows_of(state.y, begin, end), scan = rows_of(state.scan, begin, end);
    Sweep(*this, signals, weights, begin, end).solve(y, previous, scan, counts[begin]);
    scans[begin] = scan;
  });
  if (y.elements() > 0) {
    std::erase_if(scans, [](const Var& scan) { return !scan.defined(); });
    state.scan = scans.size() == 1 ? scans[0].value() : concat(scans, 0).value();
  }
  return {.y = y, .iterations = {}, .counted = together(y.context(), counts)};
}

// The rule is that of now: what becomes of the options before backward changes nothing.
Adjoint FixedPointLayer::sweep_back(const Vars& signals, const Vars& weights,
                                    const FixedPointState& before, const Tensor& solution,
                                    const std::vector<Tensor>& kept) const {
  return [this, signals, weights, before, solution, kept,
          rule = solver.gradient](const Tensor& g) -> AdjointSolution {
    const Context& context = g.context();
    const int64_t B = g.size(0);
    const SweptBack to{solution, clone(g), int_zeros(context, {B}), rule, before, kept};
    const bool direct = is_low_rank(mixer());
    if (adjoint_on_gpu(signals, weights, to)) return {to.v, direct ? IntTensor() : to.iterations};
    std::vector<IntTensor> counts(B);
    for_blocks(context, B, [&](int64_t begin, int64_t end) {
      counts[begin] = int_zeros(context, {end - begin});
      Sweep(*this, signals, weights, begin, end)
          .adjoint(solution, to.v, rule, rows_of(before.y, begin, end),
                   rows_of(before.scan, begin, end), counts[begin]);
    });
    return {to.v, direct ? IntTensor() : together(context, counts)};
  };
}

Solution FixedPointLayer::solve_in_parallel(const Map& f, Tensor start,
                                            int64_t max_iterations) const {
  return picard(
      f, std::move(start),
      {.tolerance = solver.tolerance, .max_iterations = max_iterations, .damping = solver.damping});
}

Tensor FixedPointLayer::roots_at(const Tensor& y, const Vars& signals, const Vars& weights,
                                 const FixedPointState& before) const {
  const Tensor roots(y.context(), y.shape());
  for_blocks(y.context(), y.size(0), [&](int64_t begin, int64_t end) {
    const Var found = Sweep(*this, signals, weights, begin, end)
                          .roots(slice(y, 0, begin, end), rows_of(before.y, begin, end),
                                 rows_of(before.scan, begin, end));
    put(found.value(), roots, begin);
  });
  return roots;
}

namespace {

// Nearer than so many tolerances, relative, the root of a step and a solution within the tolerance count as one.
constexpr real kRootsApart = 10;

}  // namespace

Solution FixedPointLayer::brought_back(Solution found, const Vars& signals, const Vars& weights,
                                       const FixedPointState& before,
                                       const Sequential& sequential) {
  const Tensor& y = found.y;
  if (y.elements() == 0) return found;
  const std::vector<int32_t> settled = found.settled.to_vector();
  std::vector<int64_t> strayed;  // those that have settled, until their roots are known
  for (int64_t b = 0; b < y.size(0); ++b)
    if (settled[b] == y.size(1)) strayed.push_back(b);
  if (strayed.empty()) return found;
  const std::vector<real> distance =
      largest_residuals(roots_at(y, signals, weights, before), y).to_vector();
  const real apart = kRootsApart * std::max(solver.tolerance, kResidualRounding);
  std::erase_if(strayed, [&](int64_t b) { return distance[b] <= apart; });
  if (strayed.empty()) return found;
  const Solution by_steps = sequential(Tensor(y.context(), y.shape()));
  const std::vector<int64_t> counts = by_steps.counts();
  found.iterations = found.counts();
  found.counted = {};
  for (const int64_t b : strayed) {
    put(slice(by_steps.y, 0, b, b + 1).value(), y, b);
    found.iterations[b] = counts[b];
  }
  strayed_ = static_cast<int64_t>(strayed.size());
  return found;
}

Solution FixedPointLayer::solve_automatically(const Map& f, const Tensor& start,
                                              const Sequential& sequential) {
  require<ValueError>(solver.crossover >= 0, "solver", "the crossover must not be negative",
                      solver.crossover);
  const int64_t B = start.size(0), T = start.size(1);
  const int64_t crossover =
      solver.crossover > 0 ? solver.crossover : solver_crossover(start.context().device(), B, T);
  const int64_t allowed = B < 1 ? 0 : memory.allowed(std::min(crossover, solver.max_iterations));
  if (allowed > 0) {
    Solution solution = solve_in_parallel(f, start, allowed);
    // What has settled is counted no more, so all have if none came to the cap.
    const int64_t slowest = std::ranges::max(solution.counts());
    if (slowest < allowed) {
      memory.settled_after(slowest);
      used_ = Solver::parallel;
      return solution;
    }
    memory.missed(allowed);
  }
  used_ = Solver::sequential;
  return sequential(start);  // over what the try has left
}

Solution FixedPointLayer::solve_by_name(const Map& f, Tensor start, const Sequential& sequential) {
  used_ = solver.solver;
  // A step alone is its local equation.
  if (used_ != Solver::patience && start.size(1) <= 1) used_ = Solver::sequential;
  if (used_ == Solver::automatic) return solve_automatically(f, start, sequential);
  if (used_ == Solver::sequential) return sequential(start);
  if (used_ == Solver::parallel)
    return solve_in_parallel(f, std::move(start), solver.max_iterations);
  PatienceOptions options = solver.patience;
  options.max_iterations = solver.max_iterations;
  trace_ = {};
  return patience(f, start, options, &trace_);
}

Var FixedPointLayer::solve(const Vars& signals, const Vars& weights, int64_t channels,
                           FixedPointState& state) {
  const Var& some = signals.front();
  const int64_t B = some.size(0), T = some.size(1);
  const FixedPointState before = state;
  const auto carried = [](const Tensor& x) { return x.defined() ? Var(x) : Var(); };
  const Vars plain_signals = values_of(signals), plain_weights = values_of(weights);

  Vars inputs = signals;
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  const auto count = static_cast<std::ptrdiff_t>(signals.size());
  const auto scanned = std::make_shared<Tensor>();  // by the last application, that of the solution
  const Step step = [this, before, carried, count, scanned](const Var& y, const Vars& all) {
    const auto [f, scan, residual] =
        apply(y, carried(before.y), carried(before.scan), {all.begin(), all.begin() + count},
              {all.begin() + count, all.end()});
    *scanned = scan.value();
    return Judged<Var>(f, residual);
  };
  const bool recorded = std::ranges::any_of(inputs, &Var::differentiable);
  const Sequential sequential = [&](const Tensor& to) {
    std::vector<Tensor> kept;
    Solution solution = solve_sequential(plain_signals, plain_weights, to, recorded, kept, state);
    solution.adjoint = sweep_back(plain_signals, plain_weights, before, solution.y, kept);
    return solution;
  };
  const Solve solve = [&](const Map& f, Tensor start) {
    Solution solution = solve_by_name(f, std::move(start), sequential);
    strayed_ = 0;
    if (used_ != Solver::parallel) return solution;
    solution = brought_back(std::move(solution), plain_signals, plain_weights, before, sequential);
    // A try that cost both solves has failed, however soon it settled.
    if (strayed_ > 0 && solver.solver == Solver::automatic)
      memory.missed(std::numeric_limits<int64_t>::max());
    return solution;
  };
  adjoint_ = std::make_shared<SolveRecord>();
  const FixedPointOptions options{
      .tolerance = solver.solver == Solver::patience ? solver.patience.threshold : solver.tolerance,
      .unconverged = solver.unconverged,
      .gradient = solver.gradient,
      .report = false,
      .adjoint = adjoint_};
  // A sweep through time only writes it.
  const Shape shape{B, T, channels};
  Tensor start = solver.solver == Solver::sequential ? Tensor(some.context(), shape)
                                                     : zeros(some.context(), shape);
  const auto [y, report, record] = fixed_point(step, inputs, std::move(start), solve, options);
  record_ = record;
  solution_ = y.value();
  if (T > 0 && state.wanted) {
    if (used_ != Solver::sequential) state.scan = *scanned;
    state.y = slice(y.value(), 1, T - 1, T).value().reshaped({B, channels});
  }
  return y;
}

}  // namespace fprnn
