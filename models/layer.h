// What a residual backbone stacks: a map of sequences.
#pragma once

#include <fprnn/models/module.h>

namespace fprnn {

class Layer : public Module {
 public:
  using Module::Module;
  virtual Var forward(const Var& x) = 0;  // (B, T, d) -> (B, T, d)
};

}  // namespace fprnn
