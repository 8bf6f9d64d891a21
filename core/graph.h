// Work of a GPU that is recorded once and then repeated as it stands: the same kernels on the same
// memory, started together. What changes from one time to the next must be in tensors that the work
// reads.
#pragma once

#include <fprnn/core/device.h>

#include <functional>

namespace fprnn {

class Graph {
 public:
  virtual ~Graph() = default;
  virtual void replay() = 0;
};

// Records what `work` starts, without running it. Tensors that it makes belong to the graph: nobody else gets
// their memory before the graph is gone. Those that it reads or writes besides must live as long,
// where they are; numbers of the host, streams of random ones too, stay as they were. UsageError:
// `work` reads numbers back or is given some, or records itself. MemoryError, DeviceError: as when
// it is run.
std::unique_ptr<Graph> record_graph(Cuda cuda, const std::function<void()>& work);

// Null where there is no such thing: on the CPU.
inline std::unique_ptr<Graph> record_graph(const Context& context,
                                           const std::function<void()>& work) {
  if (context.device() == DeviceKind::cuda) return record_graph(Cuda{context}, work);
  return nullptr;
}

}  // namespace fprnn
