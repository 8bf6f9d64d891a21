// From an op to its kernel. An op's work is a struct that names every pointer with its shape, and two
// overloads that do it, run(Cpu, const Args&) and run(Cuda, const Args&). launch picks one; it is
// the only place that knows whether CUDA was built. The CUDA overloads are declared and, in a
// CPU-only build, neither defined nor called.
#pragma once

#include <fprnn/core/context.h>

namespace fprnn {

struct Cpu {
  const Context& context;
};

struct Cuda {
  const Context& context;
};

template <class Args>
void launch(const Context& context, const Args& args) {
  if constexpr (kHasCuda) {
    if (context.device() == DeviceKind::cuda) {
      run(Cuda{context}, args);
      return;
    }
  }
  run(Cpu{context}, args);
}

}  // namespace fprnn
