// CUDA graphs: work of a GPU that is captured once and then replayed, the same kernels on the same
// memory, started together. Whatever changes between replays must be in tensors that the work
// reads.
#pragma once

#include <fprnn/core/device.h>

#include <functional>

namespace fprnn {

class Graph {
 public:
  virtual ~Graph() = default;
  // Starts the captured work again; does not wait for it.
  virtual void replay() = 0;
};

// Captures the kernels that `work` starts, without running them. The memory of tensors that `work`
// makes belongs to the graph. Other tensors that it reads or writes must outlive the graph and keep
// their memory. Numbers on the host, those of random streams included, keep the values they had at
// capture.
// UsageError: `work` copies numbers from or to the host, or captures a graph itself. MemoryError,
// DeviceError: as when it is run.
std::unique_ptr<Graph> capture_graph(Cuda cuda, const std::function<void()>& work);

// Whether there are graphs: on a GPU alone.
inline bool can_capture(const Context& context) { return context.device() == DeviceKind::cuda; }
// Null where there are none.
inline std::unique_ptr<Graph> capture_graph(const Context& context,
                                            const std::function<void()>& work) {
  return can_capture(context) ? capture_graph(Cuda{context}, work) : nullptr;
}

}  // namespace fprnn
