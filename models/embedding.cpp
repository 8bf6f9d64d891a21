#include <fprnn/models/embedding.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>

namespace fprnn {

Embedding::Embedding(Module& parent, std::string name, const Init& init, int64_t vocabulary,
                     int64_t width)
    : Module(parent, std::move(name)),
      weight_(add_parameter("weight",
                            normal(init.context, {vocabulary, width}, 0, real(0.02), init.rng))) {}

Var Embedding::forward(Tape& tape, const IntTensor& tokens) {
  return embedding(tape.leaf(weight_), tokens);
}

Var Embedding::logits(const Var& x) { return linear(x, beside(x, weight_)); }

}  // namespace fprnn
