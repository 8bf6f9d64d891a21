// The backbone around the layers: embedding, pre-norm residual blocks, a final norm, and the
// embedding again as the head. There is no positional encoding; the layers take care of the order.
//   res = E[token]
//   res <- res + Layer(RMSNorm(res))  for each layer, or Layer(res) where it has_residual
//   logits = RMSNorm(res) E^T
#pragma once

#include <fprnn/models/layer.h>
#include <fprnn/models/modules.h>

#include <functional>
#include <span>

namespace fprnn {

// Makes a layer as a part of `parent`, under the given name.
using LayerFactory =
    std::function<std::unique_ptr<Layer>(Module& parent, std::string name, const Init& init)>;

// Layers that a model may have.
inline constexpr int64_t kMaxLayers = 4096;

struct SequenceModelOptions {
  int64_t vocabulary;
  int64_t d_model;
  int64_t layers;
  LayerFactory make_layer;  // of each block
};

class SequenceModel : public Module {
 public:
  // The states of the layers, from the embedding up. Empty at the start of a sequence.
  using State = std::vector<LayerState>;

  // ValueError: what check_sizes refuses, layers outside 1 to kMaxLayers, or no make_layer.
  SequenceModel(const Init& init, const SequenceModelOptions& options);
  // (B, T) -> logits (B, T, V). Conditions: one for each layer, or none.
  Var forward(Tape& tape, const IntTensor& tokens, std::span<const Conditions> on = {});
  // One chunk of sequences: starts from `state` and replaces it, or leaves it unchanged if it
  // throws. UsageError: the state of another model or batch.
  Var forward(Tape& tape, const IntTensor& tokens, State& state,
              std::span<const Conditions> on = {});
  // One more token of each sequence, (B) -> logits (B, V), in memory that does not grow with the
  // length, but where a layer caches its past (ModelKind::caches).
  Tensor step(State& state, const IntTensor& tokens, std::span<const Conditions> on = {});
  // Packed sequences of any lengths, 0 included, tokens (total) -> logits (total, V). Sequence b is
  // tokens [offsets[b], offsets[b + 1]), and its logits are those it has alone; inside, shorter
  // sequences are padded to the longest. ValueError: offsets do not start at 0, decrease or do not
  // end at the total.
  Var forward(Tape& tape, const IntTensor& tokens, std::span<const int64_t> offsets);

  std::vector<Layer*> layers() const;  // from the embedding up
  int64_t d_model() const { return d_model_; }

 private:
  struct Block : Module {
    Block(Module& parent, std::string name, const Init& init, const SequenceModelOptions& options);
    std::unique_ptr<RmsNorm> norm;  // null where the layer has its own
    std::unique_ptr<Layer> layer;
  };
  // (B, T) -> (B, T, d)
  Var trunk(Tape& tape, const IntTensor& tokens, State* state, std::span<const Conditions> on = {});

  int64_t d_model_;
  Embedding embedding_;
  std::vector<std::unique_ptr<Block>> blocks_;
  RmsNorm norm_;
};

}  // namespace fprnn
