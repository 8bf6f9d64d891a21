#include <fprnn/models/causal_attention.h>
#include <fprnn/ops/layout.h>

#include <array>
#include <bit>
#include <cmath>

namespace fprnn {

namespace {

CausalAttentionOptions resolved(std::string_view model, CausalAttentionOptions options) {
  check_sizes(model, {options.d_model, options.heads, options.max_length});
  require<ValueError>(options.d_model % options.heads == 0, model,
                      "heads must divide d_model: d_model and heads", options.d_model,
                      options.heads);
  if (options.hard_alibi_heads == 0) options.hard_alibi_heads = (options.heads + 1) / 2;
  require<ValueError>(options.hard_alibi_heads >= 0 && options.hard_alibi_heads <= options.heads,
                      model, "hard_alibi_heads must be 0 to heads", options.hard_alibi_heads,
                      options.heads);
  return options;
}

// How many channels of a head are turned.
int64_t turned_channels(std::string_view model, const CausalAttentionOptions& options) {
  if (options.positions != Positions::rope) return 0;
  const int64_t width = options.d_model / options.heads;
  const double channels = options.rotary_pct * static_cast<double>(width);
  require<ValueError>(channels >= 0 && channels <= static_cast<double>(width) &&
                          std::abs(channels / 2 - std::round(channels / 2)) < 1e-6,
                      model,
                      "rotary_pct of a head's channels must be an even number of them: rotary_pct "
                      "and channels",
                      options.rotary_pct, width);
  require<ValueError>(options.rotary_base > 0 && std::isfinite(options.rotary_base), model,
                      "rotary_base must be positive", options.rotary_base);
  return std::llround(channels);
}

// Head h of the first ones sees the last h + 1 tokens, the others see all.
IntTensor hard_windows(const Context& context, const CausalAttentionOptions& options) {
  std::vector<int32_t> windows(options.heads);
  for (int64_t h = 0; h < options.hard_alibi_heads; ++h) windows[h] = static_cast<int32_t>(h + 1);
  return IntTensor(context, Shape{options.heads}, windows);
}

}  // namespace

Positions positions_named(std::string_view name) {
  if (name == "none") return Positions::none;
  if (name == "rope") return Positions::rope;
  if (name == "alibi") return Positions::alibi;
  if (name == "hard-alibi") return Positions::hard_alibi;
  throw ValueError("attention", "positions are none, rope, alibi and hard-alibi",
                   std::array{describe(name)});
}

Tensor alibi_slopes(const Context& context, int64_t heads) {
  check_sizes("alibi", {heads});
  const auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(heads)));
  std::vector<real> slopes;
  const auto take = [&](int64_t first, int64_t step) {
    for (int64_t i = first; i <= power && std::ssize(slopes) < heads; i += step)
      slopes.push_back(
          static_cast<real>(std::exp2(-8 * static_cast<double>(i) / static_cast<double>(power))));
  };
  if (power == heads) {
    take(1, 1);
  } else {
    take(2, 2);
    take(1, 2);
  }
  return Tensor(context, Shape{heads}, slopes);
}

CausalAttention::CausalAttention(std::string_view model, const Context& context,
                                 const CausalAttentionOptions& options)
    : model_(model),
      options_(resolved(model, options)),
      width_(options_.d_model / options_.heads),
      turned_(turned_channels(model, options_)) {
  if (options_.positions == Positions::alibi) slopes_ = alibi_slopes(context, options_.heads);
  if (options_.positions == Positions::hard_alibi) windows_ = hard_windows(context, options_);
}

AttentionCache CausalAttention::cache_of(const LayerState& state, int64_t B) const {
  if (state.empty()) return {};
  const Tensor& keys = state.front();
  const int64_t past = keys.defined() && keys.shape().rank() == 4 ? keys.size(1) : 0;
  const Shape shape{B, past, options_.heads, width_};
  check_state(model_, state, std::array{shape, shape});
  return {state[0], state[1]};
}

Var CausalAttention::attend(const Var& q, const Var& k, const Var& v, AttentionCache& cache) const {
  const int64_t B = q.size(0), T = q.size(1);
  const int64_t past = cache.k.defined() ? cache.k.size(1) : 0;
  require<ValueError>(past + T <= options_.max_length, model_,
                      "a sequence must not be longer than the cache: tokens and max_length",
                      past + T, options_.max_length);
  const auto of_heads = [&](const Var& x) { return reshape(x, {B, T, options_.heads, width_}); };
  const auto turned = [&](const Var& x) {
    return turned_ > 0 ? rotary(of_heads(x), turned_, options_.rotary_base, past) : of_heads(x);
  };
  const auto appended = [&](const Var& before, const Var& now) {
    return past > 0 ? concat({before, now}, 1) : now;
  };
  cache = {appended(cache.k, turned(k)), appended(cache.v, of_heads(v))};
  const Var a = attention({.q = turned(q),
                           .k = cache.k,
                           .v = cache.v,
                           .slopes = slopes_,
                           .windows = windows_,
                           .scale = static_cast<real>(1 / std::sqrt(static_cast<double>(width_)))});
  return reshape(a, {B, T, options_.d_model});
}

void CausalAttentionSettings::add_to(Settings& settings) {
  settings.add("heads", options.heads, "Heads; they divide d-model");
  settings.add("positions", positions, "What tells how far back a token lies",
               {"none", "rope", "alibi", "hard-alibi"});
  const auto only_with = [this](const char* what, std::string key) {
    return [this, what, key] {
      return positions == what ? std::string() : "positions " + positions + " have no " + key;
    };
  };
  settings.add("rotary_pct", options.rotary_pct, "Part of a head's channels that rope turns")
      .refusal = only_with("rope", "rotary_pct");
  settings.add("rotary_base", options.rotary_base, "The base of rope's angles").refusal =
      only_with("rope", "rotary_base");
  settings
      .add("hard_alibi_heads", options.hard_alibi_heads,
           "Heads that see the last tokens alone; 0: half of them")
      .refusal = only_with("hard-alibi", "hard_alibi_heads");
  settings.add("max_length", options.max_length, "Tokens that the cache of a sequence holds");
}

CausalAttentionOptions CausalAttentionSettings::at(int64_t d_model) const {
  CausalAttentionOptions all = options;
  all.d_model = d_model;
  all.positions = positions_named(positions);
  return all;
}

}  // namespace fprnn
