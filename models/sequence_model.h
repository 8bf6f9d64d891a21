// The backbone around the layers: embedding, pre-norm residual blocks, a final norm and the embedding again as
// the head. There are no positions: order is the layers' affair.
//   res = E[token];  for each layer: res += Layer(RMSNorm(res));  logits = RMSNorm(res) E^T
#pragma once

#include <fprnn/models/embedding.h>
#include <fprnn/models/layer.h>
#include <fprnn/models/norm.h>

#include <functional>

namespace fprnn {

// Makes a layer under the given parent and name.
using LayerFactory =
    std::function<std::unique_ptr<Layer>(Module& parent, std::string name, const Init& init)>;

struct SequenceModelOptions {
  int64_t vocabulary;
  int64_t d_model;
  int64_t layers;
  LayerFactory make_layer;
};

class SequenceModel : public Module {
 public:
  // ValueError: a size below 1.
  SequenceModel(const Init& init, const SequenceModelOptions& options);
  Var forward(Tape& tape, const IntTensor& tokens);  // (B, T) -> logits (B, T, V)
  std::vector<Layer*> layers() const;                // from the embedding up

 private:
  struct Block : Module {
    Block(Module& parent, std::string name, const Init& init, const SequenceModelOptions& options);
    RmsNorm norm;
    std::unique_ptr<Layer> layer;
  };
  Embedding embedding_;
  std::vector<std::unique_ptr<Block>> blocks_;
  RmsNorm norm_;
};

}  // namespace fprnn
