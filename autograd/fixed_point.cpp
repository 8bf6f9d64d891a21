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
    for (int64_t i = 0; i < args.n && most == most; ++i)
      if (!(args.x[row * args.n + i] <= most)) most = args.x[row * args.n + i];
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

// One iterate and what its application of f says of it, position by position.
class Iterate {
 public:
  explicit Iterate(const Tensor& start)
      : y(clone(start)), B(start.size(0)), T(start.size(1)), step_(B * T) {}

  void apply(const Map& f) {
    f_ = Tensor();  // before f asks for memory
    f_ = f(y);
    require(f_.shape() == y.shape(), "fixed_point", "f must not change the shape of y", f_.shape(),
            y.shape());
    residual_ = row_residuals(f_, y).to_vector();
  }
  real residual(int64_t b, int64_t t) const { return residual_[b * T + t]; }
  real residual(int64_t b) const {  // NaN if any is
    real most = 0;
    for (int64_t t = 0; t < T && most == most; ++t)
      if (!(residual(b, t) <= most)) most = residual(b, t);
    return most;
  }
  void set_step(int64_t b, int64_t t, real step) { step_[b * T + t] = step; }
  void update() {
    const Tensor step(y.context(), {B, T}, step_);
    launch(y.context(),
           DampedUpdate{
               .f = f_.data(), .step = step.data(), .y = y.data(), .rows = B * T, .D = y.size(2)});
  }

  const Tensor y;
  const int64_t B, T;

 private:
  Tensor f_;
  std::vector<real> residual_, step_;
};

// A sequence's step size.
struct Damping {
  real step;
  int shrink_after;  // 0: never
  real best = std::numeric_limits<real>::infinity();
  int since = 0;

  real after(real residual) {
    if (residual <= best * static_cast<real>(0.9)) {
      best = residual;
      since = 0;
    } else if (shrink_after > 0 && ++since == shrink_after) {
      since = 0;
      step = std::max(step / 2, static_cast<real>(1.0 / 64));
    }
    return step;
  }
};

}  // namespace

Solution picard(const Map& f, const Tensor& start, const PicardOptions& options) {
  check_iterate(start.shape());
  check_limits(options.tolerance, options.max_iterations);
  require<ValueError>(options.damping > 0 && options.damping <= 1, "fixed_point",
                      "the damping must be in (0, 1]", options.damping);
  Iterate iterate(start);
  const int64_t B = iterate.B, T = iterate.T;
  std::vector<int64_t> settled(B), iterations(B);  // settled: positions that stay as they are
  std::vector<Damping> damping(B, Damping{options.damping, options.shrink_after});
  for (int64_t l = 1; l <= options.max_iterations && B * T > 0; ++l) {
    iterate.apply(f);
    bool all = true;
    for (int64_t b = 0; b < B; ++b) {
      if (settled[b] == T) continue;
      if (options.backwards)
        settled[b] = iterate.residual(b) <= options.tolerance ? T : 0;
      else
        while (settled[b] < T && iterate.residual(b, settled[b]) <= options.tolerance) ++settled[b];
      iterations[b] = l;
      all &= settled[b] == T;
      const real step = damping[b].after(iterate.residual(b));
      for (int64_t t = 0; t < T; ++t) iterate.set_step(b, t, t < settled[b] ? 0 : step);
    }
    if (all) break;
    iterate.update();
  }
  return {iterate.y, iterations};
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

Solution patience(const Map& f, const Tensor& start, const PatienceOptions& options,
                  PatienceTrace* trace) {
  check_iterate(start.shape());
  check_limits(options.threshold, options.max_iterations);
  require<ValueError>(options.quantile >= 0 && options.quantile <= 1, "fixed_point",
                      "the quantile must be in [0, 1]", options.quantile);
  require<ValueError>(options.patience >= 1, "fixed_point", "the patience must be at least 1",
                      options.patience);
  Iterate iterate(start);
  const int64_t B = iterate.B, T = iterate.T;
  if (B * T == 0) return {iterate.y, std::vector<int64_t>(B)};
  std::vector<real> best(B, std::numeric_limits<real>::infinity()), step(B, options.step_size);
  std::vector<int> left(B, options.patience);
  int64_t l = 0;
  while (l < options.max_iterations && !(quantile_of(best, options.quantile) < options.threshold) &&
         *std::ranges::max_element(step) >= options.min_step_size) {
    ++l;
    iterate.apply(f);
    for (int64_t b = 0; b < B; ++b)
      for (int64_t t = 0; t < T; ++t) iterate.set_step(b, t, step[b]);
    iterate.update();
    for (int64_t b = 0; b < B; ++b) {
      const real residual = iterate.residual(b);
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
  return {iterate.y, std::vector<int64_t>(B, l)};
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
  for (const real r : residual)
    if (most == most && !(r <= most)) most = r;
  return most;
}

FixedPointReport SolveRecord::read() const {
  if (!residual.defined()) return {};
  const std::vector<int32_t> counts = iterations.to_vector();
  return {{counts.begin(), counts.end()}, residual.to_vector(), tolerance};
}

namespace {

SolveRecord record_of(const Solution& solution, const Tensor& f, real tolerance) {
  const Context& context = f.context();
  const int64_t B = f.size(0), T = f.size(1);
  SolveRecord record{
      .residual = Tensor(context, {B}), .iterations = solution.counted, .tolerance = tolerance};
  const Tensor rows = row_residuals(f, solution.y);
  launch(context,
         LargestOfRows{.x = rows.data(), .largest = record.residual.data(), .rows = B, .n = T});
  if (record.iterations.defined()) return record;
  std::vector<int32_t> counts;
  for (const int64_t count : solution.iterations)
    counts.push_back(static_cast<int32_t>(std::min<int64_t>(count, INT32_MAX)));
  record.iterations = IntTensor(context, {B}, counts);
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
  fmt::print(stderr,
             "fprnn: the {} of {} of {} sequences did not converge: residual {:.2g} > {:.2g}\n",
             what, missed, report.residual.size(), report.max_residual(), report.tolerance);
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
    f = step(y, inputs);
  }
  Tensor times_jacobian(const Tensor& v) const { return tape.vjp({f}, {v}, {y}).front(); }
};

// step without a record.
Tensor plainly(const Step& step, const Tensor& y, const std::vector<Var>& inputs) {
  std::vector<Var> values;
  for (const Var& input : inputs) values.push_back(input.defined() ? Var(input.value()) : Var());
  return step(Var(y), values).value();
}

// v = g + J^T v as the rule has it.
Tensor solve_adjoint(const Recorded& at, const Tensor& g, const FixedPointOptions& options) {
  const GradientRule& rule = options.gradient;
  if (rule.kind == GradientRule::Kind::one_step) return g;
  const Map map = [&](const Tensor& v) {
    Tensor next = at.times_jacobian(v);
    if (!next.unique()) next = clone(next);
    add_in_place(next, g);
    return next;
  };
  if (rule.kind == GradientRule::Kind::neumann) {
    Tensor v = g;
    for (int64_t k = 0; k < rule.terms; ++k) v = map(v);
    return v;
  }
  // A solver's own adjoint sums in another order: its residual in J^T v may be larger by rounding.
  constexpr real kSlack = 100;
  const Solution solution = options.adjoint
                                ? Solution{options.adjoint(g), std::vector<int64_t>(g.size(0), 1)}
                                : picard(map, g,
                                         {.tolerance = rule.tolerance,
                                          .max_iterations = rule.max_iterations,
                                          .backwards = true});
  if (options.unconverged != Unconverged::accept)
    act_on(record_of(solution, map(solution.y), (options.adjoint ? kSlack : 1) * rule.tolerance)
               .read(),
           options.unconverged, "gradient");
  return solution.y;
}

}  // namespace

FixedPointResult fixed_point(const Step& step, const std::vector<Var>& inputs, const Tensor& start,
                             const Solve& solve, const FixedPointOptions& options) {
  check_iterate(start.shape());
  check_limits(options.tolerance, options.gradient.max_iterations);
  check_limits(options.gradient.tolerance, 1);
  require<ValueError>(options.gradient.terms >= 0, "fixed_point",
                      "the terms of a gradient must not be negative", options.gradient.terms);
  const Solution solution = solve([&](const Tensor& y) { return plainly(step, y, inputs); }, start);
  const bool recorded = std::ranges::any_of(inputs, &Var::differentiable);
  const auto at = recorded ? std::make_shared<Recorded>(step, solution.y, inputs) : nullptr;
  const Tensor f = recorded ? at->f.value() : plainly(step, solution.y, inputs);
  require(f.shape() == start.shape(), "fixed_point", "step must not change the shape of y",
          f.shape(), start.shape());
  FixedPointResult result;
  result.record = record_of(solution, f, options.tolerance);
  if (options.report || options.unconverged != Unconverged::accept)
    result.report = result.record.read();
  act_on(result.report, options.unconverged, "solution");
  result.y = record("fixed_point", inputs, solution.y, [at, options](Backward& back) {
    const Tensor v = solve_adjoint(*at, back.output(), options);
    std::vector<Var> wanted;
    for (const Var& input : at->inputs)
      if (input.defined() && input.differentiable()) wanted.push_back(input);
    const std::vector<Tensor> gradients = at->tape.vjp({at->f}, {v}, wanted);
    for (size_t i = 0, next = 0; i < at->inputs.size(); ++i)
      if (at->inputs[i].defined() && at->inputs[i].differentiable())
        back.give(static_cast<int>(i), gradients[next++]);
  });
  return result;
}

}  // namespace fprnn
