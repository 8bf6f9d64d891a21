#include <fprnn/core/vector.h>
#include <fprnn/models/mixer.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/kronecker_solve.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/low_rank.h>
#include <fprnn/ops/norm.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

Mixer::Mixer(Module& parent, std::string name, const Init& init, const MixerOptions& options,
             const std::vector<MixerMap>& maps)
    : Module(parent, std::move(name)), options_(options) {
  for (const auto& [map, rows, bias] : maps)
    maps_.push_back(std::make_unique<WeightNormLinear>(*this, map, init, options.parameters, rows,
                                                       LinearOptions{.bias = bias}));
}

int64_t Mixer::outputs() const {
  int64_t rows = 0;
  for (const auto& map : maps_) rows += map->direction.value.size(0);
  return rows;
}

Var Mixer::forward(const Var& p, const Var& v) {
  const auto [weight, bias, none, others] =
      ProjectionRows(*this, p, options_.parameters, false).made();
  return apply(factors(linear(p, weight, bias)), v);
}

Var apply(const StepEquation& at, const Mixer& mixer, const Var& y) {
  const Var fed_back = sub(y, mixer.apply(at.q, y));
  return any_norm(add(at.offset, mul(at.gain, fed_back)), at.norm_weight, at.norm_bias, at.eps);
}

namespace {

// Step t of the steps of an equation.
StepEquation step_of(const StepEquation& at, int64_t t) {
  StepEquation step = at;
  for (Var& part : step.q) part = slice(part, 1, t, t + 1);
  for (Var* part : {&step.offset, &step.gain}) *part = slice(*part, 1, t, t + 1);
  return step;
}

}  // namespace

Tensor Mixer::solve_step(const StepEquation& at, real tolerance, int64_t max_iterations,
                         const IntTensor& counts) const {
  const Context& context = counts.context();
  const int64_t rows = at.offset.size(0), T = at.offset.size(1);
  if (T <= 1 || !has_krylov(context))
    return krylov_solve(
        {at.offset.value(), at.gain.value(), at.norm_weight.value(), at.norm_bias.value(), at.eps},
        [&](const Tensor& v) { return sub(v, apply(at.q, v)).value(); }, tolerance, max_iterations,
        counts);
  // A step at a time: few rows wait for the slowest, and their spaces fit the cache.
  Vars steps;
  for (int64_t t = 0; t < T; ++t) {
    const IntTensor count = int_zeros(context, {rows});
    steps.push_back(Mixer::solve_step(step_of(at, t), tolerance, max_iterations, count));
    for (int64_t row = 0; row < rows; ++row) counts.data()[row * T + t] = count.data()[row];
  }
  return concat(steps, 1).value();
}

Tensor Mixer::adjoint_step(const StepEquation&, const Tensor&, const Tensor&) const {
  throw UsageError("mixer", "this mixer has no adjoint of a step at once", {});
}

namespace {

// One block more, or the last one longer if this continues it.
void append(WeightLayout& to, const WeightBlock& next) {
  if (!to.blocks.empty()) {
    WeightBlock& last = to.blocks.back();
    if (last.source == next.source &&
        (next.source == ProjectionRows::kZeros ||
         (last.column == next.column && last.row + last.rows == next.row))) {
      last.rows += next.rows;
      return;
    }
  }
  to.blocks.push_back(next);
}

}  // namespace

ProjectionRows::ProjectionRows(const Mixer& mixer, const Var& like, int64_t D, bool sees_y)
    : like_(like), D_(D), x_{D, {}}, bias_{1, {}}, y_{D, {}} {
  const int64_t column = mixer.options().parameters == 2 * D ? D : 0;
  for (const auto& map : mixer.maps()) {
    const int64_t rows = map->direction.value.size(0);
    const int of = source(map.get());
    add({of, rows}, {sees_y ? of : kZeros, rows, 0, column});
  }
}

int ProjectionRows::source(const WeightSource& weight, Parameter* bias) {
  const auto at = static_cast<int>(sources_.size());
  sources_.push_back(weight);
  biases_.push_back(bias != nullptr ? at + 1 : kZeros);
  if (bias != nullptr) {
    sources_.push_back({{}, reshape(on_tape_of(like_, *bias), {bias->value.size(0), 1})});
    biases_.push_back(kZeros);
  }
  return at;
}

void ProjectionRows::add(const WeightBlock& x, const WeightBlock& y) {
  append(x_, x);
  append(y_, y);
  append(bias_, {x.source == kZeros ? kZeros : biases_[x.source], x.rows, x.row});
}

Projection ProjectionRows::made() const {
  std::vector<WeightLayout> layouts{x_, bias_};
  const bool sees_y =
      std::ranges::any_of(y_.blocks, [](const WeightBlock& at) { return at.source != kZeros; });
  if (sees_y) layouts.push_back(y_);
  layouts.insert(layouts.end(), others_.begin(), others_.end());
  const Vars all = assemble_weights(sources_, layouts);
  return {all[0], reshape(all[1], Shape{all[1].size(0)}), sees_y ? all[2] : Var(),
          Vars(all.begin() + (sees_y ? 3 : 2), all.end())};
}

namespace {

class LowRankMixer : public Mixer {
 public:
  LowRankMixer(Module& parent, std::string name, const Init& init, const MixerOptions& options)
      : Mixer(parent, std::move(name), init, options,
              {{"u_proj", options.rank * options.channels}, {"alpha_proj", options.rank, true}}) {}

  MixerFactors factors(const Var& projected) const override {
    const int64_t split = options_.rank * options_.channels;
    const Shape vectors = projected.shape().with(-1, options_.rank).appended(options_.channels);
    const Var u = reshape(silu(slice(projected, -1, 0, split)), vectors);
    return {l2_normalize(u, options_.eps), sigmoid(slice(projected, -1, split, outputs()))};
  }
  std::optional<SweepMixer> sweep() const override {
    return SweepMixer{.rank = options_.rank,
                      .in_order = options_.kind == MixerKind::householder,
                      .scale = options_.scale,
                      .norm = options_.norm,
                      .m1 = 0,
                      .m2 = 0};
  }
  Var apply(const MixerFactors& q, const Var& v) const override {
    return options_.kind == MixerKind::dplr ? dplr(q[0], q[1], v, options_.scale)
                                            : householder(q[0], q[1], v, options_.scale);
  }
  Tensor solve_step(const StepEquation& at, real tolerance, int64_t max_iterations,
                    const IntTensor& counts) const override {
    return local_solve(problem(at), tolerance, max_iterations, counts);
  }
  bool has_adjoint() const override { return true; }
  Tensor adjoint_step(const StepEquation& at, const Tensor& y, const Tensor& w) const override {
    return local_adjoint(problem(at), y, w);
  }

 private:
  LocalProblem problem(const StepEquation& at) const {
    return {.u = at.q[0].value(),
            .alpha = at.q[1].value(),
            .offset = at.offset.value(),
            .gain = at.gain.value(),
            .weight = at.norm_weight.value(),
            .bias = at.norm_bias.value(),
            .scale = options_.scale,
            .in_order = options_.kind == MixerKind::householder,
            .eps = at.eps};
  }
};

class KroneckerMixer : public Mixer {
 public:
  KroneckerMixer(Module& parent, std::string name, const Init& init, const MixerOptions& options,
                 const KroneckerSizes& sizes)
      : Mixer(parent, std::move(name), init, options,
              {{"uv_project", sizes.triangles()}, {"diag", sizes.m1 + sizes.m2, true}}),
        sizes_(sizes) {}

  MixerFactors factors(const Var& projected) const override {
    const int64_t split = sizes_.triangles();
    const auto [left, right] = kronecker_factors(silu(slice(projected, -1, 0, split)),
                                                 sigmoid(slice(projected, -1, split, outputs())),
                                                 options_.channels, options_.norm, options_.eps);
    return {left, right};
  }
  std::optional<SweepMixer> sweep() const override {
    return SweepMixer{.rank = 0,
                      .in_order = false,
                      .scale = options_.scale,
                      .norm = options_.norm,
                      .m1 = sizes_.m1,
                      .m2 = sizes_.m2};
  }
  Var apply(const MixerFactors& q, const Var& v) const override {
    return kronecker({q[0], q[1]}, v, options_.scale);
  }
  Tensor solve_step(const StepEquation& at, real tolerance, int64_t max_iterations,
                    const IntTensor& counts) const override {
    const KroneckerProblem problem{.left = at.q[0].value(),
                                   .right = at.q[1].value(),
                                   .offset = at.offset.value(),
                                   .gain = at.gain.value(),
                                   .weight = at.norm_weight.value(),
                                   .bias = at.norm_bias.value(),
                                   .scale = options_.scale,
                                   .eps = at.eps};
    return kronecker_solve(problem, tolerance, max_iterations, counts);
  }

 private:
  KroneckerSizes sizes_;
};

const MixerKindRow& row_of(MixerKind kind) {
  return *std::ranges::find(mixer_kinds(), kind, &MixerKindRow::kind);
}

}  // namespace

std::span<const MixerKindRow> mixer_kinds() {
  using Options = const MixerOptions&;
  using Bound = std::optional<double>;
  const auto low_rank = [](Module& parent, std::string name, const Init& init,
                           Options options) -> std::unique_ptr<Mixer> {
    return std::make_unique<LowRankMixer>(parent, std::move(name), init, options);
  };
  static const MixerKindRow kinds[] = {
      {.kind = MixerKind::householder,
       .name = "householder",
       .rank = true,
       .bound = [](Options o) -> Bound {
         const double r = static_cast<double>(o.rank), s = o.scale;
         return 2 * r * s / (2 + (r - 1) * s);
       },
       .make = low_rank},
      {.kind = MixerKind::dplr,
       .name = "dplr",
       .rank = true,
       .bound = [](Options o) -> Bound { return static_cast<double>(o.rank) * o.scale; },
       .make = low_rank},
      {.kind = MixerKind::kronecker,
       .name = "kronecker",
       .norm = true,
       .bound = [](Options o) -> Bound {
         if (o.norm != KroneckerNorm::row) return std::nullopt;
         return o.scale * std::sqrt(static_cast<double>(o.channels));
       },
       .make = [](Module& parent, std::string name, const Init& init,
                  Options options) -> std::unique_ptr<Mixer> {
         return std::make_unique<KroneckerMixer>(parent, std::move(name), init, options,
                                                 kronecker_sizes(options.channels));
       }}};
  return kinds;
}

MixerKind mixer_named(std::string_view name) {
  std::string names;
  for (const MixerKindRow& row : mixer_kinds()) {
    if (name == row.name) return row.kind;
    names += (names.empty() ? "" : ", ") + row.name;
  }
  throw ValueError("mixer", "mixers are " + names, std::array{describe(name)});
}

std::string_view name_of(MixerKind kind) { return row_of(kind).name; }

std::optional<double> proven_bound(const MixerOptions& options) {
  return row_of(options.kind).bound(options);
}

std::unique_ptr<Mixer> make_mixer(Module& parent, std::string name, const Init& init,
                                  const MixerOptions& options) {
  check_sizes("mixer", {options.channels});
  require<ValueError>(options.parameters >= 1, "mixer", "parameters must be at least 1",
                      options.parameters);
  require<ValueError>(options.rank >= 1 && options.rank <= options.channels, "mixer",
                      "the rank must be 1 to the number of channels", options.rank,
                      options.channels);
  require<ValueError>(options.scale >= 0 && options.scale <= 2, "mixer", "scale must be in [0, 2]",
                      options.scale);
  return row_of(options.kind).make(parent, std::move(name), init, options);
}

}  // namespace fprnn
