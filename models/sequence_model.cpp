#include <fprnn/models/sequence_model.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

#include <algorithm>
#include <limits>

namespace fprnn {

namespace {

const SequenceModelOptions& checked(const SequenceModelOptions& options) {
  check_sizes("sequence_model", {options.vocabulary, options.d_model});
  require<ValueError>(options.layers >= 1 && options.layers <= kMaxLayers, "sequence_model",
                      "there must be 1 to 4096 layers", options.layers);
  require<ValueError>(options.make_layer != nullptr, "sequence_model", "make_layer must be given");
  return options;
}

}  // namespace

SequenceModel::Block::Block(Module& parent, std::string name, const Init& init,
                            const SequenceModelOptions& options)
    : Module(parent, std::move(name)),
      norm(std::make_unique<RmsNorm>(*this, "norm", init, options.d_model)),
      layer(options.make_layer(*this, "layer", init)) {
  if (layer->has_residual()) norm = nullptr;
}

SequenceModel::SequenceModel(const Init& init, const SequenceModelOptions& options)
    : d_model_(checked(options).d_model),
      embedding_(*this, "embedding", init, options.vocabulary, options.d_model),
      norm_(*this, "norm", init, options.d_model) {
  for (int64_t i = 0; i < options.layers; ++i)
    blocks_.push_back(std::make_unique<Block>(*this, "layers." + std::to_string(i), init, options));
}

std::vector<Layer*> SequenceModel::layers() const {
  std::vector<Layer*> layers;
  for (const auto& block : blocks_) layers.push_back(block->layer.get());
  return layers;
}

Var SequenceModel::trunk(Tape& tape, const IntTensor& tokens, State* state,
                         std::span<const Conditions> on) {
  require<UsageError>(on.empty() || on.size() == blocks_.size(), "sequence_model",
                      "there must be conditions for each layer or none", on.size(), blocks_.size());
  Var residual = embedding_.forward(tape, tokens);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = *blocks_[i];
    const Conditions now = on.empty() ? Conditions{} : on[i];
    const Var x = block.norm != nullptr ? block.norm->forward(residual) : residual;
    Var y =
        state != nullptr ? block.layer->forward(x, (*state)[i], now) : block.layer->forward(x, now);
    const bool whole = block.norm == nullptr;  // the residual is in y already
    if (now.output_mask.defined()) y = mul(whole ? sub(y, residual) : y, Var(now.output_mask));
    residual = whole && !now.output_mask.defined() ? y : add(residual, y);
  }
  return norm_.forward(residual);
}

Var SequenceModel::forward(Tape& tape, const IntTensor& tokens, std::span<const Conditions> on) {
  return embedding_.logits(trunk(tape, tokens, nullptr, on));
}

Var SequenceModel::forward(Tape& tape, const IntTensor& tokens, State& state,
                           std::span<const Conditions> on) {
  require<UsageError>(state.empty() || state.size() == blocks_.size(), "sequence_model",
                      "a state must have this model's layers", state.size(), blocks_.size());
  State next = state;
  next.resize(blocks_.size());
  const Var logits = embedding_.logits(trunk(tape, tokens, &next, on));
  state = std::move(next);
  return logits;
}

Tensor SequenceModel::step(State& state, const IntTensor& tokens, std::span<const Conditions> on) {
  require(tokens.shape().rank() == 1, "sequence_model", "tokens of a step must be (B)",
          tokens.shape());
  NoGrad tape(tokens.context());
  const Tensor logits =
      forward(tape, tokens.reshaped(tokens.shape().appended(1)), state, on).value();
  return logits.reshaped(logits.shape().without(1));
}

namespace {

// The tokens as (sequences, longest), filled up with token 0, and where in that each of them
// stands.
struct Padded {
  IntTensor tokens, places;

  Padded(const IntTensor& packed, std::span<const int64_t> offsets) {
    const int64_t total = packed.elements(), B = static_cast<int64_t>(offsets.size()) - 1;
    require(packed.shape().rank() == 1, "sequence_model", "packed tokens must be (total)",
            packed.shape());
    require<ValueError>(B >= 0 && offsets.front() == 0 && offsets.back() == total, "sequence_model",
                        "offsets must start at 0 and end at the total: how many and total",
                        offsets.size(), total);
    int64_t T = 0;
    for (int64_t b = 0; b < B; ++b) {
      require<ValueError>(offsets[b] <= offsets[b + 1], "sequence_model",
                          "offsets must not decrease", offsets[b], offsets[b + 1]);
      T = std::max(T, offsets[b + 1] - offsets[b]);
    }
    const Context& context = packed.context();
    require<ValueError>(Shape{B, T}.elements() <= std::numeric_limits<int32_t>::max(),
                        "sequence_model", "sequences times the longest must fit 31 bits", B, T);
    const std::vector<int32_t> given = packed.to_vector();
    std::vector<int32_t> padded = host_vector<int32_t>({B, T}), at = host_vector<int32_t>({total});
    for (int64_t b = 0; b < B; ++b)
      for (int64_t t = 0; t < offsets[b + 1] - offsets[b]; ++t) {
        padded[b * T + t] = given[offsets[b] + t];
        at[offsets[b] + t] = static_cast<int32_t>(b * T + t);
      }
    tokens = IntTensor(context, {B, T}, padded);
    places = IntTensor(context, {total}, at);
  }
};

}  // namespace

Var SequenceModel::forward(Tape& tape, const IntTensor& tokens, std::span<const int64_t> offsets) {
  const Padded padded(tokens, offsets);
  const Var all = trunk(tape, padded.tokens, nullptr);
  const Var rows = reshape(all, {padded.tokens.elements(), all.size(-1)});
  return embedding_.logits(embedding(rows, padded.places));
}

}  // namespace fprnn
