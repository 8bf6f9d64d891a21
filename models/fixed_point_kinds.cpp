#include <fprnn/models/fp_delta_net.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/fp_mamba2.h>
#include <fprnn/models/fp_rnn.h>
#include <fprnn/models/registry.h>

#include <algorithm>

namespace fprnn {

namespace {

// The options of a layer, and beside them those that a user writes otherwise.
template <class LayerOptions>
struct FixedPointSettings {
  LayerOptions options = {};
  bool short_conv = false;
  std::string mixer = "kronecker";
  double mixer_scale = 2;
  std::string mixer_normalisation = "row", mixer_input = "concatenated", hidden_dependence;

  void add_to(Settings& settings);
  LayerOptions at(const LayerPlace& place) const;
};

// All that both layers have but hidden_dependence, which they take differently.
template <class LayerOptions>
void FixedPointSettings<LayerOptions>::add_to(Settings& settings) {
  settings.add("expand", options.expand, "Channels inside a layer, in units of d-model");
  settings.add("short_conv", short_conv, "Whether inputs pass a convolution of width 4");
  std::vector<std::string> mixers;
  for (const MixerKindRow& row : mixer_kinds()) mixers.push_back(row.name);
  settings.add("mixer", mixer, "Channel mixer of the fixed points", mixers);
  const auto has = [this](bool MixerKindRow::*what) {
    const auto row = std::ranges::find(mixer_kinds(), mixer, &MixerKindRow::name);
    return row == mixer_kinds().end() || *row.*what;
  };
  settings.add("rank", options.rank, "Rank of the mixers that have one, householder and dplr")
      .refusal = [this, has] { return has(&MixerKindRow::rank) ? "" : mixer + " has no rank"; };
  settings.add("mixer_scale", mixer_scale,
               "Factor of I - Q; at 1 it is proven to lengthen no vector for rank 1 alone");
  settings
      .add("mixer_normalisation", mixer_normalisation, "Of kronecker", {"row", "spectral", "both"})
      .refusal = [this, has] {
    return has(&MixerKindRow::norm) ? "" : mixer + " has no mixer_normalisation";
  };
  settings.add("mixer_input", mixer_input, "What the mixer sees of x_t and y_{t-1}",
               {"concatenated", "symmetric"});
}

KroneckerNorm kronecker_norm_named(const std::string& name) {
  if (name == "both") return KroneckerNorm::row_spectral;
  return name == "row" ? KroneckerNorm::row : KroneckerNorm::spectral;
}

template <class LayerOptions>
LayerOptions FixedPointSettings<LayerOptions>::at(const LayerPlace& place) const {
  LayerOptions all = options;
  all.d_model = place.d_model;
  all.conv_width = short_conv ? 4 : 0;
  all.layers = place.layers;
  all.mixer = mixer_named(mixer);
  all.scale = static_cast<real>(mixer_scale);
  all.kronecker_norm = kronecker_norm_named(mixer_normalisation);
  all.symmetric = mixer_input == "symmetric";
  all.solver = place.solver;
  return all;
}

// Those that every FpBlock has, behind its own. sees says what q, b and c are.
template <class Block, class BlockOptions>
LayerMaker block_maker(Settings& settings,
                       const std::shared_ptr<FixedPointSettings<BlockOptions>>& own,
                       const std::string& sees) {
  own->hidden_dependence = std::string("q,b,c");
  own->add_to(settings);
  settings.add("hidden_dependence", own->hidden_dependence, sees);
  settings.add("glu_in_loop", own->options.glu_in_loop,
               "Whether the fixed point is read without a gate of its own");
  return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
    BlockOptions options = own->at(place);
    options.dependence = hidden_dependence_named(own->hidden_dependence);
    return std::make_unique<Block>(parent, std::move(name), init, options);
  };
}

}  // namespace

ModelKind fp_mamba_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<FixedPointSettings<FpMambaOptions>>();
    own->hidden_dependence = std::string("q,b,c");
    settings.add("d_state", own->options.d_state, "States of each channel");
    own->add_to(settings);
    settings.add("hidden_dependence", own->hidden_dependence,
                 "Which see y_{t-1}: none or some of q,b,c,lambda");
    settings.add("bc_norm", own->options.bc_norm, "Whether b and c are normalised");
    Setting& additive = settings.add(
        "additive_input", own->options.additive_input,
        "Whether the state adds up inputs, and not its own channels alone, which they mix");
    additive.implied = "true";
    additive.fits_any = true;
    Setting& keep = settings.add(
        "state_keep", own->options.state_keep,
        "Share of the scan's state that a step keeps outside of training; 1 - state_dropout is its "
        "mean there");
    keep.implied = "1.0";
    keep.fits_any = true;
    settings.add("glu_in_loop", own->options.glu_in_loop,
                 "Whether the gate is inside the fixed point");
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      FpMambaOptions options = own->at(place);
      options.dependence = hidden_dependence_named(own->hidden_dependence);
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
    const auto own = std::make_shared<FixedPointSettings<FpRnnOptions>>();
    own->hidden_dependence = std::string("q");
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
      FpRnnOptions options = own->at(place);
      options.hidden_dependence = hidden_dependence_named(own->hidden_dependence).q;
      return std::make_unique<FpRnn>(parent, std::move(name), init, options);
    };
  };
  return {.name = "fp-rnn",
          .about = "A gated diagonal recurrence with a channel mixer in the loop, of one vector",
          .declare = declare,
          .solver = true};
}

ModelKind fp_mamba2_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<FixedPointSettings<FpMamba2Options>>();
    settings.add("d_state", own->options.d_state, "States of each channel");
    settings.add("headdim", own->options.headdim,
                 "Channels of a head; divides expand times d-model");
    settings.add("ngroups", own->options.ngroups, "Groups of heads, which share b and c");
    settings.add("bc_norm", own->options.bc_norm, "Whether b and c are normalised");
    settings.add("d_has_hdim", own->options.channel_skip,
                 "A skip of each channel, not of each head");
    return block_maker<FpMamba2>(settings, own, "Which see y_{t-1}: none or some of q,b,c");
  };
  return {.name = "fp-mamba2",
          .about = "Mamba-2 with a dense transition, as the fixed point of mixing and scan",
          .declare = declare,
          .solver = true};
}

ModelKind fp_delta_net_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<FixedPointSettings<FpDeltaNetOptions>>();
    settings.add("heads", own->options.heads, "Heads of keys, queries and values");
    settings.add("head_dim", own->options.head_dim, "Channels of a key; 0: d-model / heads");
    settings.add("forget_gate", own->options.forget_gate, "Whether the memory forgets");
    settings.add("negative_eigenvalues", own->options.negative_eigenvalues,
                 "Eigenvalues of a step in [-1, 1] instead of [0, 1]");
    return block_maker<FpDeltaNet>(
        settings, own, "Which see y_{t-1}: none or some of q (the mixer), b (keys), c (queries)");
  };
  return {.name = "fp-deltanet",
          .about = "The gated delta rule with a channel mixer in the loop, as a fixed point",
          .declare = declare,
          .solver = true};
}

}  // namespace fprnn
