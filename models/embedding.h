// Token embeddings, and the same table as the output head.
#pragma once

#include <fprnn/models/module.h>

namespace fprnn {

// weight (V, D), N(0, 0.02^2) at the start.
class Embedding : public Module {
 public:
  Embedding(Module& parent, std::string name, const Init& init, int64_t vocabulary, int64_t width);
  Var forward(Tape& tape, const IntTensor& tokens);  // (...) -> (..., D)
  Var logits(const Var& x);                          // x weight^T: (..., D) -> (..., V)

 private:
  Parameter& weight_;
};

}  // namespace fprnn
