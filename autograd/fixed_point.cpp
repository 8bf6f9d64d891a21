#include <fmt/format.h>
#include <fprnn/autograd/fixed_point.h>
#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>

namespace fprnn {

FPRNN_KERNEL(void row_residuals(const RowResiduals&, int64_t begin, int64_t end))
FPRNN_KERNEL(void damped_update(const DampedUpdate&, int64_t begin, int64_t end))

void run(Cpu cpu, const RowResiduals& args) {
  const auto kernel = FPRNN_SELECT(cpu, row_residuals);
  parallel_for(cpu, args.rows, grain_for(args.D),
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}
void run(Cpu, const LargestOfRows& args) {
  for (int64_t row = 0; row < args.rows; ++row) {
    real most = 0;
    for (int64_t i = 0; i < args.n; ++i) most = larger_or_nan(args.x[row * args.n + i], most);
    args.largest[row] = most;
  }
}
void run(Cpu cpu, const DampedUpdate& args) {
  const auto kernel = FPRNN_SELECT(cpu, damped_update);
  parallel_for(cpu, args.rows, grain_for(args.D),
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

namespace {

void check_iterate(const Shape& shape) {
  require(shape.rank() == 3, "fixed_point", "y must be (B, T, D)", shape);
}
void check_limits(real tolerance, int64_t max_iterations) {
  require<ValueError>(tolerance >= 0 && std::isfinite(tolerance), "fixed_point",
                      "the tolerance must be finite and not negative", tolerance);
  require<ValueError>(max_iterations >= 1, "fixed_point",
                      "the cap on iterations must be at least 1", max_iterations);
}

Tensor row_residuals(const Tensor& f, const Tensor& y) {
  const Tensor residual(y.context(), y.shape().without(-1));
  launch(y.context(), RowResiduals{.f = f.data(),
                                   .y = y.data(),
                                   .residual = residual.data(),
                                   .rows = residual.elements(),
                                   .D = y.size(-1)});
  return residual;
}

// (B, T) -> (B); NaN where any is.
Tensor largest_of_sequences(const Tensor& residual) {
  const Tensor largest(residual.context(), {residual.size(0)});
  launch(residual.context(), LargestOfRows{.x = residual.data(),
                                           .largest = largest.data(),
                                           .rows = residual.size(0),
                                           .n = residual.size(1)});
  return largest;
}

// (B, T), which whoever made f may have brought with it.
Tensor residual_of(const Judged<Tensor>& of, const Tensor& y) {
  if (!of.residual.defined()) return row_residuals(of.f, y);
  require(of.residual.shape() == y.shape().without(-1), "fixed_point",
          "a residual that comes with f must be (B, T)", of.residual.shape(), y.shape());
  return of.residual;
}

// One iterate and what its application of f says of it, position by position.
class Iterate {
 public:
  explicit Iterate(Tensor start) : B(start.size(0)), T(start.size(1)), y_(std::move(start)) {}

  const Tensor& y() const { return y_; }
  const Tensor& residual() const { return residual_; }  // (B, T)
  void apply(const Map& f) {
    Judged<Tensor> of = f(y_);
    f_ = std::move(of.f);
    require(f_.shape() == y_.shape(), "fixed_point", "f must not change the shape of y", f_.shape(),
            y_.shape());
    residual_ = residual_of({f_, std::move(of.residual)}, y_);
  }
  // step (B, T). The memory of f's value becomes the next iterate's.
  void update(const Tensor& step) {
    if (!f_.unique()) f_ = clone(f_);
    launch(
        y_.context(),
        DampedUpdate{
            .y = y_.data(), .step = step.data(), .f = f_.data(), .rows = B * T, .D = y_.size(2)});
    y_ = std::move(f_);
    f_ = Tensor();
  }

  const int64_t B, T;

 private:
  Tensor y_, f_, residual_;
};

// Of each sequence, where it is known.
struct Settling {
  IntTensor settled, iterations, since;  // (B)
  Tensor best, damping;                  // (B)
  Tensor step;                           // (B, T)

  Settling(const Context& context, int64_t B, int64_t T, real damping)
      : settled(int_zeros(context, {B})),
        iterations(int_zeros(context, {B})),
        since(int_zeros(context, {B})),
        best(full(context, {B}, std::numeric_limits<real>::infinity())),
        damping(full(context, {B}, damping)),
        step(context, {B, T}) {}
  bool all_of(int64_t T) const {
    return std::ranges::all_of(settled.to_vector(), [T](int32_t count) { return count == T; });
  }
};

// How often the host looks whether all have settled: on a GPU it must wait for that.
int64_t iterations_between_looks(const Context& context) {
  return context.device() == DeviceKind::cuda ? 4 : 1;
}

int32_t as_count(int64_t count) {
  return static_cast<int32_t>(std::min<int64_t>(count, INT32_MAX));
}

}  // namespace

Tensor largest_residuals(const Tensor& f, const Tensor& y) {
  return largest_of_sequences(row_residuals(f, y));
}

std::vector<int64_t> Solution::counts() const {
  if (!counted.defined()) return iterations;
  const std::vector<int32_t> counts = counted.to_vector();
  return {counts.begin(), counts.end()};
}

void run(Cpu, const SettleSequences& args) {
  for (int64_t b = 0; b < args.B; ++b) {
    int32_t& settled = args.settled[b];
    if (settled == args.T) continue;
    const real* residual = args.residual + b * args.T;
    real most = 0;
    for (int64_t t = 0; t < args.T; ++t) most = larger_or_nan(residual[t], most);
    if (args.backwards)
      settled = most <= args.tolerance ? as_count(args.T) : 0;
    else
      while (settled < args.T && residual[settled] <= args.tolerance) ++settled;
    args.iterations[b] = args.iteration;
    if (most <= args.best[b] * static_cast<real>(0.9)) {
      args.best[b] = most;
      args.since[b] = 0;
    } else if (args.shrink_after > 0 && ++args.since[b] == args.shrink_after) {
      args.since[b] = 0;
      args.damping[b] = std::max(args.damping[b] / 2, static_cast<real>(1.0 / 64));
    }
    for (int64_t t = 0; t < args.T; ++t)
      args.step[b * args.T + t] = t < settled ? 0 : args.damping[b];
  }
}

Solution picard(const Map& f, Tensor start, const PicardOptions& options) {
  check_iterate(start.shape());
  check_limits(options.tolerance, options.max_iterations);
  require<ValueError>(options.damping > 0 && options.damping <= 1, "fixed_point",
                      "the damping must be in (0, 1]", options.damping);
  const Context context = start.context();
  Iterate iterate(std::move(start));
  const int64_t B = iterate.B, T = iterate.T;
  require(T <= INT32_MAX, "fixed_point", "T must be below 2^31", T);
  const Settling known(context, B, T, options.damping);
  const int64_t between = iterations_between_looks(context);
  for (int64_t l = 1; l <= options.max_iterations && B * T > 0; ++l) {
    iterate.apply(f);
    launch(context, SettleSequences{.residual = iterate.residual().data(),
                                    .settled = known.settled.data(),
                                    .iterations = known.iterations.data(),
                                    .since = known.since.data(),
                                    .best = known.best.data(),
                                    .damping = known.damping.data(),
                                    .step = known.step.data(),
                                    .B = B,
                                    .T = T,
                                    .iteration = as_count(l),
                                    .tolerance = options.tolerance,
                                    .backwards = options.backwards,
                                    .shrink_after = options.shrink_after});
    if (l % between == 0 && l < options.max_iterations && known.all_of(T)) break;
    iterate.update(known.step);
  }
  return {
      .y = iterate.y(), .iterations = {}, .counted = known.iterations, .settled = known.settled};
}

namespace {

// The q-quantile, interpolated linearly between neighbours.
double quantile_of(std::vector<real> values, double q) {
  std::ranges::sort(values);
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const auto above = std::min(below + 1, values.size() - 1);
  // The one above may be infinite.
  if (at == static_cast<double>(below) || values[below] == values[above]) return values[below];
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace

Solution patience(const Map& f, Tensor start, const PatienceOptions& options,
                  PatienceTrace* trace) {
  check_iterate(start.shape());
  check_limits(options.threshold, options.max_iterations);
  require<ValueError>(options.quantile >= 0 && options.quantile <= 1, "fixed_point",
                      "the quantile must be in [0, 1]", options.quantile);
  require<ValueError>(options.patience >= 1, "fixed_point", "the patience must be at least 1",
                      options.patience);
  const Context context = start.context();
  Iterate iterate(std::move(start));
  const int64_t B = iterate.B, T = iterate.T;
  if (B * T == 0) return {iterate.y(), std::vector<int64_t>(B)};
  std::vector<real> best(B, std::numeric_limits<real>::infinity()), step(B, options.step_size);
  std::vector<int> left(B, options.patience);
  int64_t l = 0;
  while (l < options.max_iterations && !(quantile_of(best, options.quantile) < options.threshold) &&
         *std::ranges::max_element(step) >= options.min_step_size) {
    ++l;
    iterate.apply(f);
    const std::vector<real> residuals = largest_of_sequences(iterate.residual()).to_vector();
    std::vector<real> steps(B * T);
    for (int64_t b = 0; b < B; ++b) std::fill_n(steps.begin() + b * T, T, step[b]);
    iterate.update(Tensor(context, {B, T}, steps));
    for (int64_t b = 0; b < B; ++b) {
      const real residual = residuals[b];
      if (residual < best[b]) {
        best[b] = residual;
        left[b] = options.patience;
      } else if (--left[b] == 0) {
        left[b] = options.patience;
        step[b] *= options.decay;
      }
    }
    if (trace != nullptr) trace->best_residual.push_back(best);
  }
  if (trace != nullptr) trace->step_size = step;
  return {iterate.y(), std::vector<int64_t>(B, l)};
}

GradientRule gradient_named(std::string_view name) {
  GradientRule rule;
  if (name == "one-step") return rule;
  if (name == "exact") {
    rule.kind = GradientRule::Kind::exact;
    return rule;
  }
  rule.kind = GradientRule::Kind::neumann;
  constexpr std::string_view kPrefix = "neumann:";
  const bool prefixed = name.starts_with(kPrefix);
  const char *first = name.data() + (prefixed ? kPrefix.size() : 0),
             *last = name.data() + name.size();
  const auto [end, error] = std::from_chars(first, last, rule.terms);
  constexpr int64_t kMostTerms = 10'000;
  require<ValueError>(prefixed && error == std::errc() && end == last && rule.terms >= 0 &&
                          rule.terms <= kMostTerms,
                      "fixed_point", "gradients are one-step, neumann:K up to 10,000, and exact",
                      name);
  return rule;
}

std::string name_of(const GradientRule& rule) {
  switch (rule.kind) {
    case GradientRule::Kind::one_step:
      return "one-step";
    case GradientRule::Kind::neumann:
      return fmt::format("neumann:{}", rule.terms);
    case GradientRule::Kind::exact:
      break;
  }
  return "exact";
}

int64_t FixedPointReport::unconverged() const {
  return std::ranges::count_if(residual, [&](real r) { return !(r <= tolerance); });
}
int64_t FixedPointReport::max_iterations() const {
  return iterations.empty() ? 0 : *std::ranges::max_element(iterations);
}
double FixedPointReport::mean_iterations() const {
  double sum = 0;
  for (const int64_t count : iterations) sum += static_cast<double>(count);
  return iterations.empty() ? 0 : sum / static_cast<double>(iterations.size());
}
real FixedPointReport::max_residual() const {
  real most = 0;
  for (const real r : residual) most = larger_or_nan(r, most);
  return most;
}

FixedPointReport SolveRecord::read() const {
  if (!residual.defined()) return {};
  FixedPointReport report{{}, residual.to_vector(), tolerance};
  report.iterations.assign(report.residual.size(), 1);
  if (iterations.defined()) std::ranges::copy(iterations.to_vector(), report.iterations.begin());
  return report;
}

namespace {

// residual (B).
SolveRecord record_of(const Solution& solution, const Tensor& residual, real tolerance) {
  SolveRecord record{.residual = residual, .iterations = solution.counted, .tolerance = tolerance};
  if (record.iterations.defined()) return record;
  std::vector<int32_t> counts;
  for (const int64_t count : solution.iterations) counts.push_back(as_count(count));
  record.iterations = IntTensor(residual.context(), {residual.size(0)}, counts);
  return record;
}
void act_on(const FixedPointReport& report, Unconverged action, std::string_view what) {
  const int64_t missed = report.unconverged();
  if (missed == 0 || action == Unconverged::accept) return;
  if (action == Unconverged::fail)
    throw ConvergenceError(
        "fixed_point",
        fmt::format("the {} must converge; sequences that did not, all, residual, tolerance", what),
        std::array{describe(missed), describe(static_cast<int64_t>(report.residual.size())),
                   describe(report.max_residual()), describe(report.tolerance)});
  const std::string warning = fmt::format(
      "fprnn: the {} of {} of {} sequences did not converge: residual {:.2g} > {:.2g}\n", what,
      missed, report.residual.size(), report.max_residual(), report.tolerance);
  std::fputs(warning.c_str(), stderr);  // it throws nothing where that is closed or full
}

// step at the solution, recorded on a tape of its own, and the numbers of its variables there.
struct Recorded {
  Tape tape;
  Var y, f;
  std::vector<Var> inputs;

  Recorded(const Step& step, const Tensor& solution, const std::vector<Var>& outer)
      : tape(solution.context()), y(tape.variable(solution)) {
    for (const Var& input : outer)
      inputs.push_back(!input.defined()         ? Var()
                       : input.differentiable() ? tape.variable(input.value())
                                                : tape.constant(input.value()));
    f = step(y, inputs).f;
  }
  // Of f only its place on the tape is needed further: the memory of its value goes.
  void forget_value() { f = Var(y.value(), f.tape(), f.id()); }
  Tensor times_jacobian(const Tensor& v) const { return tape.vjp({f}, {v}, {y}).front(); }
};

// step without a record.
Judged<Tensor> plainly(const Step& step, const Tensor& y, const std::vector<Var>& inputs) {
  std::vector<Var> values;
  for (const Var& input : inputs) values.push_back(input.defined() ? Var(input.value()) : Var());
  const auto [f, residual] = step(Var(y), values);
  return {f.value(), residual};
}

// v = g + J^T v as the rule has it.
AdjointSolution solve_adjoint(const Recorded& at, const Tensor& g, const GradientRule& rule,
                              const Adjoint& adjoint) {
  if (rule.kind == GradientRule::Kind::one_step) return g;
  const Map map = [&](const Tensor& v) {
    Tensor next = at.times_jacobian(v);
    if (!next.unique()) next = clone(next);
    add_in_place(next, g);
    return next;
  };
  if (rule.kind == GradientRule::Kind::neumann) {
    Tensor v = g;
    for (int64_t k = 0; k < rule.terms; ++k) v = map(v).f;
    return v;
  }
  if (adjoint) return adjoint(g);
  const Solution solution = picard(
      map, g,
      {.tolerance = rule.tolerance, .max_iterations = rule.max_iterations, .backwards = true});
  return {solution.y, solution.counted};
}

// The gradient of a solution: of the inputs by one product with all of f's Jacobian at v, which shows as well what
// v = g + J^T v leaves.
struct SolutionGradient {
  std::shared_ptr<const Recorded> at;
  GradientRule rule;
  Adjoint adjoint;  // the solver's own, if it has one
  Unconverged unconverged;
  std::shared_ptr<SolveRecord> record;  // of an exact v, if anybody asks

  void operator()(Backward& back) const {
    const Tensor g = back.output();
    const AdjointSolution solution = solve_adjoint(*at, g, rule, adjoint);
    const bool judged = rule.kind == GradientRule::Kind::exact &&
                        (record != nullptr || unconverged != Unconverged::accept);
    std::vector<Var> wanted;
    for (const Var& input : at->inputs)
      if (input.defined() && input.differentiable()) wanted.push_back(input);
    if (judged) wanted.push_back(at->y);
    std::vector<Tensor> gradients = at->tape.vjp({at->f}, {solution.v}, wanted);
    if (judged) judge(solution, add_to(std::move(gradients.back()), g));
    for (size_t i = 0, next = 0; i < at->inputs.size(); ++i)
      if (at->inputs[i].defined() && at->inputs[i].differentiable())
        back.give(static_cast<int>(i), gradients[next++]);
  }

 private:
  static Tensor add_to(Tensor x, const Tensor& y) {
    if (!x.unique()) x = clone(x);
    add_in_place(x, y);
    return x;
  }
  // next = g + J^T v. A solver's own adjoint sums in another order: its residual may be larger by
  // rounding.
  void judge(const AdjointSolution& solution, const Tensor& next) const {
    constexpr real kSlack = 100;
    const SolveRecord made{.residual = largest_residuals(next, solution.v),
                           .iterations = solution.iterations,
                           .tolerance = (adjoint ? kSlack : 1) * rule.tolerance};
    if (record != nullptr) *record = made;
    if (unconverged != Unconverged::accept) act_on(made.read(), unconverged, "gradient");
  }
};

}  // namespace

FixedPointResult fixed_point(const Step& step, const std::vector<Var>& inputs, Tensor start,
                             const Solve& solve, const FixedPointOptions& options) {
  check_iterate(start.shape());
  check_limits(options.tolerance, options.gradient.max_iterations);
  check_limits(options.gradient.tolerance, 1);
  require<ValueError>(options.gradient.terms >= 0, "fixed_point",
                      "the terms of a gradient must not be negative", options.gradient.terms);
  const Shape shape = start.shape();
  const Solution solution =
      solve([&](const Tensor& y) { return plainly(step, y, inputs); }, std::move(start));
  const bool recorded = std::ranges::any_of(inputs, &Var::differentiable);
  const auto at = recorded ? std::make_shared<Recorded>(step, solution.y, inputs) : nullptr;
  Tensor residual = solution.residual;
  if (recorded || !residual.defined()) {
    const Judged<Tensor> of = recorded ? at->f.value() : plainly(step, solution.y, inputs);
    require(of.f.shape() == shape, "fixed_point", "step must not change the shape of y",
            of.f.shape(), shape);
    if (!residual.defined()) residual = largest_of_sequences(residual_of(of, solution.y));
  }
  FixedPointResult result;
  result.record = record_of(solution, residual, options.tolerance);
  if (recorded) at->forget_value();
  if (options.report || options.unconverged != Unconverged::accept)
    result.report = result.record.read();
  act_on(result.report, options.unconverged, "solution");
  result.y = record("fixed_point", inputs, solution.y,
                    SolutionGradient{.at = at,
                                     .rule = options.gradient,
                                     .adjoint = solution.adjoint,
                                     .unconverged = options.unconverged,
                                     .record = options.adjoint});
  return result;
}

}  // namespace fprnn
