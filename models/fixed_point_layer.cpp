#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/kronecker_solve.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/norm.h>

#include <cmath>
#include <memory>

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
  std::vector<Tensor> carried = state.convolutions;
  carried.insert(carried.end(), {state.y, state.scan});
  for (const Tensor& tensor : carried)
    require<UsageError>(!tensor.defined() || u.shape().rank() < 1 || tensor.size(0) == u.size(0),
                        "fixed_point", "a state must be of the same batch", u.shape());
  FixedPointState next = state;
  const Var out = evaluate(u, next);
  state = std::move(next);
  return out;
}

void draw_kept_states(const StateDropout& dropout, const Tensor& keep) {
  require<ValueError>(dropout.rate >= 0 && dropout.rate <= 1, "state_dropout",
                      "the rate must be in [0, 1]", dropout.rate);
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
      const LocalEquation at = layer_.local_equation(previous, scan, now, weights_);
      const Var solved = solve_local(at, iterations);
      scan = layer_.advance(solved, at, scan, now, weights_);
      put(solved.value(), y, begin_, t);
      previous = reshape(solved, solved.shape().without(1));
    }
  }

  // v = g + J^T v for the solution y, written over g. Steps are recorded a chunk at a time, about
  // sqrt(T) of them, from states that a first pass keeps.
  void adjoint(const Tensor& y, const Tensor& g, const Var& previous, const Var& scan) const {
    const int64_t T = y.size(1);
    const Var solution = slice(y, 0, begin_, begin_ + rows_);
    const int64_t chunk =
        T <= kRecorded
            ? T
            : std::max<int64_t>(kRecorded, std::llround(std::sqrt(static_cast<double>(T))));
    const auto before = [&](int64_t t) {
      return t == 0 ? previous : reshape(slice(solution, 1, t - 1, t), {rows_, y.size(2)});
    };
    std::vector<Var> kept{scan};
    for (int64_t t = 0; t + chunk < T; t += chunk) {
      Var state = kept.back();
      for (int64_t i = t; i < t + chunk; ++i) {
        const Vars now = part_of(signals_, 1, i, i + 1);
        const LocalEquation at = layer_.local_equation(before(i), state, now, weights_);
        state = layer_.advance(slice(solution, 1, i, i + 1), at, state, now, weights_);
      }
      kept.push_back(state);
    }
    Carried carried;
    for (int64_t first = (static_cast<int64_t>(kept.size()) - 1) * chunk; first >= 0;
         first -= chunk) {
      std::vector<RecordedStep> steps;
      Var state = kept[first / chunk];
      for (int64_t t = first; t < std::min(T, first + chunk); ++t) {
        steps.push_back(record_step(slice(solution, 1, t, t + 1), before(t), state, t));
        state = steps.back().scan.value();
      }
      for (int64_t t = std::min(T, first + chunk) - 1; t >= first; --t)
        adjoint_step(steps[t - first], g, t, carried);
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
  bool is_low_rank() const { return layer_.mixer().options().kind != MixerKind::kronecker; }

  Var solve_local(const LocalEquation& at, const IntTensor& iterations) const {
    const real tolerance = layer_.solver.of_a_step();
    const int64_t cap = layer_.solver.max_iterations;
    const IntTensor count(iterations.context(), iterations.shape());
    const Tensor y = is_low_rank() ? local_solve(low_rank(at), tolerance, cap, count)
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
    step.at = layer_.local_equation(step.previous, step.state, now, weights_);
    const LocalEquation& at = step.at;
    const Var feedback = sub(step.y, layer_.mixer().apply(at.q, step.y));
    const Var sum = add(at.offset, mul(at.gain, feedback));
    step.f = at.norm_weight.defined()
                 ? layer_norm(sum, at.norm_weight, at.norm_bias, layer_.mixer().options().eps)
                 : sum;
    step.scan = layer_.advance(step.y, at, step.state, now, weights_);
    return step;
  }

  // What comes back from the step after.
  struct Carried {
    Tensor dprevious, dscan;  // undefined behind the last step
  };
  void adjoint_step(const RecordedStep& step, const Tensor& g, int64_t t, Carried& carried) const {
    // What reaches y_t besides its own equation: g_t, the next step's y_{t-1} and the scan.
    Tensor w = slice(slice(g, 0, begin_, begin_ + rows_), 1, t, t + 1).value();
    if (carried.dprevious.defined()) {
      w = add(w, carried.dprevious.reshaped(w.shape())).value();
      w = add(w, step.tape->vjp({step.scan}, {carried.dscan}, {step.y}).front()).value();
    }
    const Tensor v = solve_local_adjoint(w, step);
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

  // v = w + (df_t / dy_t)^T v.
  Tensor solve_local_adjoint(const Tensor& w, const RecordedStep& step) const {
    if (is_low_rank()) return local_adjoint(low_rank(step.at), step.y.value(), w);
    const GradientRule& rule = layer_.solver.gradient;
    const auto map = [&](const Tensor& v) {
      return add(w, step.tape->vjp({step.f}, {v}, {step.y}).front()).value();
    };
    return picard(map, w,
                  {.tolerance = rule.tolerance,
                   .max_iterations = rule.max_iterations,
                   .backwards = true,
                   .shrink_after = 16})
        .y;
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

}  // namespace

Solution FixedPointLayer::solve_sequential(const Vars& signals, const Vars& weights,
                                           const Tensor& y, bool recorded,
                                           std::vector<Tensor>& kept,
                                           FixedPointState& state) const {
  const int64_t B = y.size(0);
  const Swept swept{y, int_zeros(y.context(), {B}), Tensor(y.context(), {B}), recorded, kept};
  if (solve_on_gpu(signals, weights, swept, state))
    return {.y = y, .iterations = {}, .counted = swept.iterations, .residual = swept.residual};
  struct Block {
    int64_t end;
    IntTensor iterations;
    Var scan;
  };
  std::vector<Block> blocks(B);  // by their beginning
  for_blocks(y.context(), B, [&](int64_t begin, int64_t end) {
    const IntTensor iterations = int_zeros(y.context(), {end - begin});
    Var previous = rows_of(state.y, begin, end), scan = rows_of(state.scan, begin, end);
    Sweep(*this, signals, weights, begin, end).solve(y, previous, scan, iterations);
    blocks[begin] = {end, iterations, scan};
  });
  if (B > 0 && blocks[0].end == B) {
    if (y.elements() > 0) state.scan = blocks[0].scan.value();
    return {y, {}, blocks[0].iterations};
  }
  Solution solution{y, {}};
  Vars scans;
  for (int64_t b = 0; b < B; b = blocks[b].end) {
    for (const int32_t count : blocks[b].iterations.to_vector())
      solution.iterations.push_back(count);
    scans.push_back(blocks[b].scan);
  }
  if (y.elements() > 0) state.scan = concat(scans, 0).value();
  return solution;
}

Adjoint FixedPointLayer::sweep_back(const Vars& signals, const Vars& weights,
                                    const FixedPointState& before, const Tensor& solution,
                                    const std::vector<Tensor>& kept) const {
  return [this, signals, weights, before, solution, kept](const Tensor& g) {
    const Tensor v = clone(g);
    if (adjoint_on_gpu(signals, weights, solution, v, before, kept)) return v;
    for_blocks(v.context(), v.size(0), [&](int64_t begin, int64_t end) {
      Sweep(*this, signals, weights, begin, end)
          .adjoint(solution, v, rows_of(before.y, begin, end), rows_of(before.scan, begin, end));
    });
    return v;
  };
}

Solution FixedPointLayer::solve_in_parallel(const Map& f, Tensor start,
                                            int64_t max_iterations) const {
  return picard(
      f, std::move(start),
      {.tolerance = solver.tolerance, .max_iterations = max_iterations, .damping = solver.damping});
}

Solution FixedPointLayer::solve_automatically(const Map& f, const Tensor& start,
                                              const Sequential& sequential) {
  require<ValueError>(solver.crossover >= 0, "solver", "the crossover must not be negative",
                      solver.crossover);
  const int64_t B = start.size(0), T = start.size(1);
  const int64_t crossover =
      solver.crossover > 0 ? solver.crossover : solver_crossover(start.context().device(), B, T);
  const bool single = B < 1 || T <= 1;  // a step alone is its local equation
  const int64_t allowed = single ? 0 : memory.allowed(std::min(crossover, solver.max_iterations));
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
  const auto sequential = [&](const Tensor& to) {
    std::vector<Tensor> kept;
    Solution solution = solve_sequential(plain_signals, plain_weights, to, recorded, kept, state);
    solution.adjoint = sweep_back(plain_signals, plain_weights, before, solution.y, kept);
    return solution;
  };
  const Solve solve = [&](const Map& f, Tensor start) {
    return solve_by_name(f, std::move(start), sequential);
  };
  const FixedPointOptions options{
      .tolerance = solver.solver == Solver::patience ? solver.patience.threshold : solver.tolerance,
      .unconverged = solver.unconverged,
      .gradient = solver.gradient,
      .report = false};
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
