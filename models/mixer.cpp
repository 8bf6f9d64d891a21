#include <fprnn/core/vector.h>
#include <fprnn/models/mixer.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/kronecker_solve.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/low_rank.h>
#include <fprnn/ops/norm.h>

#include <cmath>

namespace fprnn {

MixerKind mixer_named(std::string_view name) {
  for (const MixerKind kind : {MixerKind::householder, MixerKind::dplr, MixerKind::kronecker})
    if (name == name_of(kind)) return kind;
  throw ValueError("mixer", "mixers are householder, dplr and kronecker",
                   std::array{describe(name)});
}

std::string_view name_of(MixerKind kind) {
  return kind == MixerKind::householder ? "householder"
         : kind == MixerKind::dplr      ? "dplr"
                                        : "kronecker";
}

std::optional<double> proven_bound(const MixerOptions& options) {
  const auto s = static_cast<double>(options.scale), r = static_cast<double>(options.rank);
  if (options.kind == MixerKind::householder) return 2 * r * s / (2 + (r - 1) * s);
  if (options.kind == MixerKind::dplr) return r * s;
  if (options.norm != KroneckerNorm::row) return std::nullopt;
  return s * std::sqrt(static_cast<double>(options.channels));
}

Var Mixer::weight(const Var& like) {
  const auto all_of = [](int source, const WeightNormLinear& map) {
    return WeightBlock{.source = source, .rows = map.direction.value.size(0)};
  };
  return assemble_weights({above().source(like), below().source(like)},
                          {{options_.parameters, {all_of(0, above()), all_of(1, below())}}})
      .front();
}

Var Mixer::bias(const Var& like) {
  const Var none = zeros(like.context(), Shape{above().direction.value.size(0)});
  return concat({none, beside(like, *below().bias)}, 0);
}

Var Mixer::forward(const Var& p, const Var& v) {
  return apply(factors(linear(p, weight(p), bias(p))), v);
}

Tensor Mixer::solve_step(const StepEquation& at, real tolerance, int64_t max_iterations,
                         const IntTensor& counts) const {
  const Map f = [&](const Tensor& y) { return fprnn::apply(at, *this, y).value(); };
  return iterate_rows(f, zeros(counts.context(), at.offset.shape()), tolerance, max_iterations,
                      counts);
}

Tensor Mixer::adjoint_step(const StepEquation&, const Tensor&, const Tensor&) const {
  throw UsageError("mixer", "this mixer has no adjoint of a step at once", {});
}

namespace {

Tensor value_or_none(const Var& x) { return x.defined() ? x.value() : Tensor(); }

class LowRankMixer : public Mixer {
 public:
  LowRankMixer(Module& parent, std::string name, const Init& init, const MixerOptions& options)
      : Mixer(parent, std::move(name), options),
        u_proj_(*this, "u_proj", init, options.parameters, options.rank * options.channels),
        alpha_proj_(*this, "alpha_proj", init, options.parameters, options.rank, {.bias = true}) {}

  int64_t outputs() const override { return options_.rank * (options_.channels + 1); }
  WeightNormLinear& above() override { return u_proj_; }
  WeightNormLinear& below() override { return alpha_proj_; }

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
    return options_.kind == MixerKind::dplr ? dplr(q.first, q.second, v, options_.scale)
                                            : householder(q.first, q.second, v, options_.scale);
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
    return {.u = at.q.first.value(),
            .alpha = at.q.second.value(),
            .offset = at.offset.value(),
            .gain = at.gain.value(),
            .weight = value_or_none(at.norm_weight),
            .bias = value_or_none(at.norm_bias),
            .scale = options_.scale,
            .in_order = options_.kind == MixerKind::householder,
            .eps = at.eps};
  }
  WeightNormLinear u_proj_;
  WeightNormLinear alpha_proj_;
};

class KroneckerMixer : public Mixer {
 public:
  KroneckerMixer(Module& parent, std::string name, const Init& init, const MixerOptions& options)
      : Mixer(parent, std::move(name), options),
        sizes_(kronecker_sizes(options.channels)),
        uv_project_(*this, "uv_project", init, options.parameters, sizes_.triangles()),
        diag_(*this, "diag", init, options.parameters, sizes_.m1 + sizes_.m2, {.bias = true}) {}

  int64_t outputs() const override { return sizes_.triangles() + sizes_.m1 + sizes_.m2; }
  WeightNormLinear& above() override { return uv_project_; }
  WeightNormLinear& below() override { return diag_; }

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
    return kronecker({q.first, q.second}, v, options_.scale);
  }
  Tensor solve_step(const StepEquation& at, real tolerance, int64_t max_iterations,
                    const IntTensor& counts) const override {
    const KroneckerProblem problem{.left = at.q.first.value(),
                                   .right = at.q.second.value(),
                                   .offset = at.offset.value(),
                                   .gain = at.gain.value(),
                                   .weight = value_or_none(at.norm_weight),
                                   .bias = value_or_none(at.norm_bias),
                                   .scale = options_.scale,
                                   .eps = at.eps};
    return kronecker_solve(problem, tolerance, max_iterations, counts);
  }

 private:
  KroneckerSizes sizes_;
  WeightNormLinear uv_project_;
  WeightNormLinear diag_;
};

}  // namespace

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
  if (options.kind == MixerKind::kronecker)
    return std::make_unique<KroneckerMixer>(parent, std::move(name), init, options);
  return std::make_unique<LowRankMixer>(parent, std::move(name), init, options);
}

}  // namespace fprnn
