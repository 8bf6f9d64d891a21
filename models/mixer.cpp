#include <fprnn/models/mixer.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/low_rank.h>
#include <fprnn/ops/norm.h>

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

namespace {

class LowRankMixer : public Mixer {
 public:
  LowRankMixer(Module& parent, std::string name, const Init& init, const MixerOptions& options)
      : Mixer(parent, std::move(name)),
        options_(options),
        u_proj_(*this, "u_proj", init, options.parameters, options.rank * options.channels),
        alpha_proj_(*this, "alpha_proj", init, options.parameters, options.rank, {.bias = true}) {}

  Var forward(const Var& p, const Var& v) override {
    const Shape factors = p.shape().with(-1, options_.rank).appended(options_.channels);
    const Var u = l2_normalize(reshape(silu(u_proj_.forward(p)), factors), options_.eps);
    const Var alpha = sigmoid(alpha_proj_.forward(p));
    return options_.kind == MixerKind::dplr ? dplr(u, alpha, v, options_.scale)
                                            : householder(u, alpha, v, options_.scale);
  }

 private:
  MixerOptions options_;
  WeightNormLinear u_proj_;
  WeightNormLinear alpha_proj_;
};

class KroneckerMixer : public Mixer {
 public:
  KroneckerMixer(Module& parent, std::string name, const Init& init, const MixerOptions& options)
      : Mixer(parent, std::move(name)),
        options_(options),
        sizes_(kronecker_sizes(options.channels)),
        uv_project_(*this, "uv_project", init, options.parameters, sizes_.triangles()),
        diag_(*this, "diag", init, options.parameters, sizes_.m1 + sizes_.m2, {.bias = true}) {}

  Var forward(const Var& p, const Var& v) override {
    const KroneckerFactors factors =
        kronecker_factors(silu(uv_project_.forward(p)), sigmoid(diag_.forward(p)),
                          options_.channels, options_.norm, options_.eps);
    return kronecker(factors, v, options_.scale);
  }

 private:
  MixerOptions options_;
  KroneckerSizes sizes_;
  WeightNormLinear uv_project_;
  WeightNormLinear diag_;
};

}  // namespace

std::unique_ptr<Mixer> make_mixer(Module& parent, std::string name, const Init& init,
                                  const MixerOptions& options) {
  require<ValueError>(options.channels >= 1 && options.parameters >= 1, "mixer",
                      "channels and parameters must be at least 1", options.channels,
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
