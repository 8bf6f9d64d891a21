// FP-Mamba-2: whole with either solver, in chunks and step by step.
#include <fprnn/models/fp_mamba2.h>

#include "golden_fixed_point.h"

namespace fprnn::golden {

namespace {

FpMamba2Options options_of(const Json& spec) {
  FpMamba2Options options;
  options.d_model = spec.at("d_model");
  options.d_state = spec.at("d_state");
  options.headdim = spec.at("headdim");
  options.ngroups = spec.value("ngroups", 1);
  options.expand = spec.value("expand", 2);
  options.conv_width = spec.value("use_short_conv", false) ? spec.value("d_conv", 4) : 0;
  options.channel_skip = spec.value("D_has_hdim", false);
  options.mixer = mixer_of(spec);
  options.rank = spec.value("mixer_rank", 1);
  options.scale = spec.value("mixer_scale", real(2));
  options.symmetric = spec.value("symm_mixer", false);
  options.dependence.q = spec.value("mixer_h_dep", true);
  options.bc_norm = spec.value("bc_norm", true);
  options.glu_in_loop = spec.value("glu_in_loop", false);
  options.eps = eps_of(spec);
  options.solver = solver_of(spec);
  return options;
}

void run_fp_mamba2(Case& c) {
  run_layer<FpMamba2>(c, options_of(c.spec), "fixed_point.y");
  Rng rng;
  Module root;
  FpMamba2 layer(root, "layer", {c.context, rng}, options_of(c.spec));
  for (const auto& [path, parameter] : layer.parameters())
    parameter->value = c.read("param." + path);
  const Tensor x = c.read("in.x");
  const int64_t T = x.size(1);
  for (const int64_t length : {1, 3, 64}) {
    std::vector<Var> parts;
    FixedPointState state;
    for (int64_t t = 0; t < T; t += length)
      parts.push_back(layer.forward(slice(x, 1, t, std::min(T, t + length)), state));
    c.compare_output(concat(parts, 1).value(), "out.y");
  }
}

}  // namespace

Runners fp_mamba2_runners() { return {{"fp_mamba2", run_fp_mamba2}}; }

}  // namespace fprnn::golden
