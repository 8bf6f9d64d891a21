#include <fprnn/models/sequence_model.h>
#include <fprnn/ops/elementwise.h>

namespace fprnn {

namespace {

const SequenceModelOptions& checked(const SequenceModelOptions& options) {
  require<ValueError>(options.vocabulary >= 1 && options.d_model >= 1 && options.layers >= 1,
                      "sequence_model", "vocabulary, d_model and layers must be at least 1",
                      options.vocabulary, options.d_model, options.layers);
  require<ValueError>(options.make_layer != nullptr, "sequence_model", "make_layer must be given");
  return options;
}

}  // namespace

SequenceModel::Block::Block(Module& parent, std::string name, const Init& init,
                            const SequenceModelOptions& options)
    : Module(parent, std::move(name)),
      norm(*this, "norm", init, options.d_model),
      layer(options.make_layer(*this, "layer", init)) {}

SequenceModel::SequenceModel(const Init& init, const SequenceModelOptions& options)
    : embedding_(*this, "embedding", init, checked(options).vocabulary, options.d_model),
      norm_(*this, "norm", init, options.d_model) {
  for (int64_t i = 0; i < options.layers; ++i)
    blocks_.push_back(std::make_unique<Block>(*this, "layers." + std::to_string(i), init, options));
}

std::vector<Layer*> SequenceModel::layers() const {
  std::vector<Layer*> layers;
  for (const auto& block : blocks_) layers.push_back(block->layer.get());
  return layers;
}

Var SequenceModel::forward(Tape& tape, const IntTensor& tokens) {
  Var residual = embedding_.forward(tape, tokens);
  for (const auto& block : blocks_)
    residual = add(residual, block->layer->forward(block->norm.forward(residual)));
  return embedding_.logits(norm_.forward(residual));
}

}  // namespace fprnn
