#include <fprnn/core/check.h>
#include <fprnn/core/graph.h>
#include <fprnn/cuda/memory.cuh>

namespace fprnn {

namespace {

DeviceMemory& memory_of(const Context& context) {
  return static_cast<DeviceMemory&>(context.memory());
}

class CudaGraph final : public Graph {
 public:
  CudaGraph(const Context& context, const std::function<void()>& work) : context_(context) {
    CudaDevice& gpu = context.gpu();
    require<UsageError>(!gpu.capturing, "graph", "graphs are recorded one at a time");
    shelf_ = memory_of(context).set_apart();
    try {
      record(gpu, work);
    } catch (...) {
      finish(gpu);
      release();
      throw;
    }
    finish(gpu);
  }
  ~CudaGraph() override { release(); }

  void replay() override {
    cuda::check(cudaGraphLaunch(executable_, context_.gpu().stream), "replaying a graph");
  }

 private:
  // Relaxed: memory may be asked for meanwhile.
  void record(CudaDevice& gpu, const std::function<void()>& work) {
    cuda::check(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeRelaxed),
                "recording a graph");
    gpu.capturing = true;
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(gpu.stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    cuda::check(cudaStreamEndCapture(gpu.stream, &graph), "recording a graph");
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    cuda::check(status, "recording a graph");
  }

  void finish(CudaDevice& gpu) {
    gpu.capturing = false;
    memory_of(context_).set_apart_no_more();
  }

  // What still runs uses its memory before whatever comes next on the stream.
  void release() noexcept {
    if (executable_ != nullptr) {
      cudaStreamSynchronize(context_.gpu().stream);
      cudaGraphExecDestroy(executable_);
    }
    memory_of(context_).give_up(shelf_);
  }

  Context context_;
  std::shared_ptr<DeviceMemory::Shelf> shelf_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

std::unique_ptr<Graph> capture_graph(Cuda cuda, const std::function<void()>& work) {
  return std::make_unique<CudaGraph>(cuda.context, work);
}

}  // namespace fprnn
