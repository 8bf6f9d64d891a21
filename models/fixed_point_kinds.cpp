#include <fprnn/models/fixed_point_kinds.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/fp_rnn.h>

namespace fprnn {

namespace {

struct FixedPointSettings {
  int64_t expand = 2;
  bool short_conv = false;
  std::string mixer = "kronecker";
  int64_t rank = 1;
  double mixer_scale = 2;
  std::string mixer_normalisation = "row", mixer_input = "concatenated";
  std::string hidden_dependence = "q,b,c";

  void add_to(Settings& settings);
  // Those of FpMambaOptions or FpRnnOptions.
  template <class LayerOptions>
  LayerOptions options(const LayerPlace& place) const;
};

// All but hidden_dependence, which the two layers take differently.
void FixedPointSettings::add_to(Settings& settings) {
  settings.add("expand", expand, "Channels inside a layer, in units of d-model");
  settings.add("short_conv", short_conv, "Whether inputs pass a convolution of width 4");
  settings.add("mixer", mixer, "Channel mixer of the fixed points",
               {"kronecker", "householder", "dplr"});
  settings.add("rank", rank, "Rank of householder and dplr").refusal = [this] {
    return mixer == "kronecker" ? "kronecker has no rank" : "";
  };
  settings.add("mixer_scale", mixer_scale,
               "Factor of I - Q; at 1 it is proven to lengthen no vector for rank 1 alone");
  settings
      .add("mixer_normalisation", mixer_normalisation, "Of kronecker", {"row", "spectral", "both"})
      .refusal = [this] {
    return mixer == "kronecker" ? "" : mixer + " has no mixer_normalisation";
  };
  settings.add("mixer_input", mixer_input, "What the mixer sees of x_t and y_{t-1}",
               {"concatenated", "symmetric"});
}

KroneckerNorm kronecker_norm_named(const std::string& name) {
  if (name == "both") return KroneckerNorm::row_spectral;
  return name == "row" ? KroneckerNorm::row : KroneckerNorm::spectral;
}

template <class LayerOptions>
LayerOptions FixedPointSettings::options(const LayerPlace& place) const {
  LayerOptions options;
  options.d_model = place.d_model;
  options.expand = expand;
  options.conv_width = short_conv ? 4 : 0;
  options.layers = place.layers;
  options.mixer = mixer_named(mixer);
  options.rank = rank;
  options.scale = static_cast<real>(mixer_scale);
  options.kronecker_norm = kronecker_norm_named(mixer_normalisation);
  options.symmetric = mixer_input == "symmetric";
  options.solver = place.solver;
  return options;
}

struct FpMambaSettings : FixedPointSettings {
  int64_t d_state = 16;
  bool bc_norm = true, glu_in_loop = false;
};

}  // namespace

ModelKind fp_mamba_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<FpMambaSettings>();
    settings.add("d_state", own->d_state, "States of each channel");
    own->add_to(settings);
    settings.add("hidden_dependence", own->hidden_dependence,
                 "Which see y_{t-1}: none or some of q,b,c,lambda");
    settings.add("bc_norm", own->bc_norm, "Whether b and c are normalised");
    settings.add("glu_in_loop", own->glu_in_loop, "Whether the gate is inside the fixed point");
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      auto options = own->options<FpMambaOptions>(place);
      options.d_state = own->d_state;
      options.dependence = hidden_dependence_named(own->hidden_dependence);
      options.bc_norm = own->bc_norm;
      options.glu_in_loop = own->glu_in_loop;
      return std::make_unique<FpMamba>(parent, std::move(name), init, options);
    };
  };
  return {.name = "fp-mamba",
          .about = "Mamba with a dense transition, as the fixed point of mixing and scan",
          .declare = declare,
          .solver = true,
          .states = true};
}

ModelKind fp_rnn_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<FixedPointSettings>();
    own->hidden_dependence = "q";
    own->add_to(settings);
    settings
        .add("hidden_dependence", own->hidden_dependence,
             "Whether the mixer sees y_{t-1}: q or none")
        .refusal = [own = own.get()] {
      const HiddenDependence sees = hidden_dependence_named(own->hidden_dependence);
      return sees.b || sees.c || sees.lambda ? "fp-rnn has no hidden_dependence but q and none"
                                             : "";
    };
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      auto options = own->options<FpRnnOptions>(place);
      options.hidden_dependence = hidden_dependence_named(own->hidden_dependence).q;
      return std::make_unique<FpRnn>(parent, std::move(name), init, options);
    };
  };
  return {.name = "fp-rnn",
          .about = "A gated diagonal recurrence with a channel mixer in the loop, of one vector",
          .declare = declare,
          .solver = true};
}

}  // namespace fprnn
