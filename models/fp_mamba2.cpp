#include <fprnn/core/vector.h>
#include <fprnn/models/fp_mamba2.h>
#include <fprnn/models/mamba.h>
#include <fprnn/models/mamba2.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

namespace fprnn {

namespace {

constexpr std::string_view kName = "fp_mamba2";

SsdOptions ssd_options(const FpMamba2Options& of) {
  check_sizes(kName, {of.d_model, of.expand, of.d_state, of.headdim, of.ngroups});
  check_sizes(kName, {of.expand * of.d_model, of.ngroups * of.d_state});
  return {.heads = heads_of(kName, of.expand * of.d_model, of.headdim, of.ngroups),
          .channels = of.headdim,
          .groups = of.ngroups,
          .states = of.d_state,
          .bc_norm = of.bc_norm,
          .eps = of.eps};
}

}  // namespace

FpMamba2::FpMamba2(Module& parent, std::string name, const Init& init,
                   const FpMamba2Options& options)
    : FpBlock(parent, std::move(name), init, options,
              {.op = kName,
               .directions = ssd_options(options).groups * options.d_state,
               .scalars = ssd_options(options).heads,
               .y_proj = "bc_y_proj"}),
      ssd_(ssd_options(options)),
      cell_(ssd_),
      dt_bias_(add_parameter("dt_bias", initial_step_bias(init, ssd_.heads), Decay::no)),
      a_log_(add_parameter("A_log", initial_decay(init, ssd_.heads), Decay::no)),
      skip_(add_parameter(
          "D",
          full(init.context, Shape{options.channel_skip ? ssd_.heads * ssd_.channels : ssd_.heads},
               1),
          Decay::no)) {}

Vars FpMamba2::weights(const Var& like) {
  const Var skip = on_tape_of(like, skip_);
  return {affine(exp(on_tape_of(like, a_log_)), -1, 0),
          skip.size(0) == ssd_.heads ? skip : reshape(skip, {ssd_.heads, ssd_.channels}),
          on_tape_of(like, dt_bias_)};
}

}  // namespace fprnn
