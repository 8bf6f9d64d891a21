#include <fprnn/models/delta_net.h>
#include <fprnn/models/fp_delta_net.h>
#include <fprnn/models/mamba.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

namespace fprnn {

namespace {

constexpr std::string_view kName = "fp_delta_net";

DeltaOptions delta_options(const FpDeltaNetOptions& of) {
  check_sizes(kName, {of.d_model, of.expand, of.heads});
  const int64_t D = of.expand * of.d_model;
  require<ValueError>(D % of.heads == 0, kName,
                      "heads must divide expand times d_model: heads and the product", of.heads, D);
  require<ValueError>(of.head_dim > 0 || of.d_model % of.heads == 0, kName,
                      "heads must divide d_model where head_dim is not given", of.heads,
                      of.d_model);
  const int64_t keys = of.head_dim != 0 ? of.head_dim : of.d_model / of.heads;
  check_sizes(kName, {keys});
  check_sizes(kName, {of.heads * keys});
  return {.heads = of.heads, .keys = keys, .channels = D / of.heads, .eps = of.eps};
}

}  // namespace

FpDeltaNet::FpDeltaNet(Module& parent, std::string name, const Init& init,
                       const FpDeltaNetOptions& options)
    : FpBlock(parent, std::move(name), init, options,
              {.op = kName,
               .directions = options.heads * delta_options(options).keys,
               .scalars = options.forget_gate ? 2 * options.heads : options.heads,
               .y_proj = "kq_y_proj"}),
      heads_(options.heads),
      most_(options.negative_eigenvalues ? 2 : 1),
      cell_(delta_options(options)),
      a_log_(options.forget_gate
                 ? &add_parameter("A_log", initial_log_rates(init, heads_), Decay::no)
                 : nullptr),
      dt_bias_(options.forget_gate
                   ? &add_parameter("dt_bias", initial_step_bias(init, heads_), Decay::no)
                   : nullptr) {}

Vars FpDeltaNet::signals(const Var& s) {
  const auto beta = [&](const Var& raw) { return affine(sigmoid(raw), most_, 0); };
  if (a_log_ == nullptr) return {beta(s), Var()};
  const Vars parts = split(s, -1, {heads_, heads_});
  const Var step = softplus(add(parts[1], on_tape_of(s, *dt_bias_)));
  return {beta(parts[0]), mul(step, affine(exp(on_tape_of(s, *a_log_)), -1, 0))};
}

}  // namespace fprnn
