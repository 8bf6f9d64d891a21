// The xLSTM: blocks and the cell, whole, in chunks and step by step.
#include <fprnn/models/mlstm.h>
#include <fprnn/models/slstm.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/mlstm.h>

#include "golden_case.h"

namespace fprnn::golden {

namespace {

void run_mlstm_cell(Case& c) {
  if (!kDouble) c.tolerance = c.spec.value("float_tolerance", c.tolerance);
  const Var q = c.input("q"), k = c.input("k"), v = c.input("v"), igate = c.input("igate"),
            fgate = c.input("fgate");
  // In float the definition's own ops lose n . q of one token to rounding, up to 1.03e-3 of the gradient
  // of q where 1e-3 is allowed; the kernel stays below 6.4e-4.
  std::vector<MlstmResult (*)(const MlstmInputs&)> forms{mlstm};
  if (kDouble) forms.push_back(mlstm_by_steps);
  const int64_t T = q.size(1);
  for (const auto op : forms)
    for (const int64_t length : {T, int64_t{1}, int64_t{3}, int64_t{64}}) {
      std::vector<Var> parts;
      MlstmResult state;
      for (int64_t t = 0; t < T; t += length) {
        const auto steps = [&](const Var& x) { return slice(x, 1, t, std::min(T, t + length)); };
        state = op({.q = steps(q),
                    .k = steps(k),
                    .v = steps(v),
                    .igate = steps(igate),
                    .fgate = steps(fgate),
                    .c = state.c,
                    .n = state.n,
                    .m = state.m,
                    .eps = c.spec.at("eps")});
        parts.push_back(state.h);
      }
      c.check(concat(parts, 1));
    }
}

template <class Layer, class State, class Options>
void run_block(Case& c, const Options& options) {
  Rng rng;
  Module root;
  Layer layer(root, "layer", {c.context, rng}, options);
  c.load(layer);
  check_layer<State>(c, layer);
}

void run_mlstm(Case& c) {
  run_block<Mlstm, MlstmState>(c, MlstmOptions{.d_model = c.spec.at("embedding_dim"),
                                               .heads = c.spec.at("num_heads"),
                                               .inner = c.spec.at("inner_dim"),
                                               .qkv_block = c.spec.value("qkv_proj_blocksize", 4),
                                               .conv_width = c.spec.value("conv1d_kernel_size", 4),
                                               .bias = c.spec.value("bias", false),
                                               .eps = c.spec.value("eps", real(1e-6)),
                                               .norm_eps = c.spec.value("norm_eps", kNormEps)});
}

void run_slstm(Case& c) {
  const int64_t ffn = c.spec.value("ffn_dim", int64_t{0});
  run_block<Slstm, SlstmState>(c, SlstmOptions{.d_model = c.spec.at("embedding_dim"),
                                               .heads = c.spec.at("num_heads"),
                                               .conv_width = c.spec.value("conv1d_kernel_size", 4),
                                               .ffn = ffn > 0,
                                               .ffn_width = ffn,
                                               .norm_eps = c.spec.value("norm_eps", kNormEps)});
}

}  // namespace

Runners xlstm_runners() {
  return {{"mlstm", run_mlstm}, {"mlstm_cell", run_mlstm_cell}, {"slstm", run_slstm}};
}

}  // namespace fprnn::golden
