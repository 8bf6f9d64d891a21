#include <fprnn/core/vector.h>
#include <fprnn/models/registry.h>
#include <fprnn/models/transformer.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

namespace fprnn {

namespace {

constexpr std::string_view kName = "transformer";

TransformerOptions resolved(TransformerOptions options) {
  const int64_t D = options.attention.d_model;
  check_sizes(kName, {D});
  if (options.intermediate == 0) options.intermediate = 4 * D;
  check_sizes(kName, {options.intermediate});
  require<ValueError>(options.eps >= 0, kName, "eps must not be negative", options.eps);
  return options;
}

}  // namespace

Transformer::Transformer(Module& parent, std::string name, const Init& init,
                         const TransformerOptions& options)
    : Layer(parent, std::move(name)),
      options_(resolved(options)),
      attention_(kName, init.context, options_.attention),
      input_layernorm_(*this, "input_layernorm", init, options_.attention.d_model, options_.eps),
      query_key_value_(*this, "attention.query_key_value", init, options_.attention.d_model,
                       3 * options_.attention.d_model, {.bias = true}),
      dense_(*this, "attention.dense", init, options_.attention.d_model, options_.attention.d_model,
             {.bias = true}),
      post_attention_layernorm_(*this, "post_attention_layernorm", init, options_.attention.d_model,
                                options_.eps),
      dense_h_to_4h_(*this, "mlp.dense_h_to_4h", init, options_.attention.d_model,
                     options_.intermediate, {.bias = true}),
      dense_4h_to_h_(*this, "mlp.dense_4h_to_h", init, options_.intermediate,
                     options_.attention.d_model, {.bias = true}) {
  for (Linear* each : {&query_key_value_, &dense_, &dense_h_to_4h_, &dense_4h_to_h_})
    each->weight.value =
        normal(init.context, each->weight.value.shape(), 0, static_cast<real>(0.02), init.rng);
}

Var Transformer::evaluate(const Var& x, LayerState* state, const Conditions& on) {
  require<ValueError>(!on.state_mask.defined(), kName, "no step of it can forget its state");
  AttentionCache cache;
  if (state != nullptr && x.shape().rank() == 3) cache = attention_.cache_of(*state, x.size(0));
  const Var out = forward(x, cache);
  if (state != nullptr) *state = {cache.k.value(), cache.v.value()};
  return out;
}

Var Transformer::forward(const Var& x, AttentionCache& cache) {
  const int64_t D = options_.attention.d_model, H = options_.attention.heads;
  require(x.shape().rank() == 3 && x.size(-1) == D, kName, "x must be (B, T, d)", x.shape(), D);
  const Var qkv = query_key_value_.forward(input_layernorm_.forward(x));
  const std::vector<Var> parts =
      split(reshape(qkv, {x.size(0), x.size(1), H, 3, D / H}), 3, {1, 1, 1});
  const Var a = attention_.attend(parts[0], parts[1], parts[2], cache);
  const Var between = add(x, dense_.forward(a));
  const Var seen = post_attention_layernorm_.forward(options_.parallel_residual ? x : between);
  return add(between, dense_4h_to_h_.forward(gelu(dense_h_to_4h_.forward(seen))));
}

ModelKind transformer_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    struct Own {
      CausalAttentionSettings attention;
      TransformerOptions options;
    };
    const auto own = std::make_shared<Own>();
    own->attention.add_to(settings);
    settings.add("intermediate", own->options.intermediate, "Width of the MLP; 0: 4 d-model");
    settings.add("parallel_residual", own->options.parallel_residual,
                 "The MLP sees what attention sees, not its sum");
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      TransformerOptions options = own->options;
      options.attention = own->attention.at(place.d_model);
      return std::make_unique<Transformer>(parent, std::move(name), init, options);
    };
  };
  return {.name = "transformer",
          .about = "Causal softmax attention and an MLP, which caches all of its past",
          .declare = declare,
          .caches = true};
}

}  // namespace fprnn
