#include <fprnn/core/check.h>
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>

namespace fprnn {

namespace cuda {

void check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();  // one that can be recovered from is not met again
  const std::array got{describe(what), std::string(cudaGetErrorString(status))};
  if (status == cudaErrorMemoryAllocation)
    throw MemoryError("cuda", "the GPU must provide the memory", got);
  throw DeviceError("cuda", "the GPU must do what it is asked", got);
}

void check(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  throw DeviceError("cuda", "cuBLAS must do what it is asked",
                    std::array{describe(what), std::string(cublasLtGetStatusString(status))});
}

void launch_failed(cudaError_t status, std::string_view kernel, const Grid& grid) {
  throw DeviceError(
      "cuda", "a kernel must run: name, blocks, threads, shared bytes and CUDA's message",
      std::array{describe(kernel), describe(grid.blocks), describe(grid.threads),
                 describe(grid.shared_bytes), std::string(cudaGetErrorString(status))});
}

namespace {

// What is started meanwhile is started on the other stream.
class OnTheOther {
 public:
  explicit OnTheOther(CudaDevice& gpu) : gpu_(gpu) { swap(); }
  ~OnTheOther() { swap(); }
  OnTheOther(const OnTheOther&) = delete;

 private:
  void swap() {
    std::swap(gpu_.stream, gpu_.other_stream);
    std::swap(gpu_.workspace, gpu_.other_workspace);
  }
  CudaDevice& gpu_;
};

void open_other(CudaDevice& gpu) {
  if (gpu.meet != nullptr) return;
  const auto make_event = [](cudaEvent_t& event) {
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event");
  };
  if (gpu.other_stream == nullptr)
    check(cudaStreamCreateWithFlags(&gpu.other_stream, cudaStreamNonBlocking), "a stream");
  if (gpu.other_workspace == nullptr)
    check(cudaMalloc(&gpu.other_workspace, CudaDevice::kWorkspaceBytes), "the workspace of cuBLAS");
  if (gpu.part == nullptr) make_event(gpu.part);
  make_event(gpu.meet);
}

}  // namespace

void side_by_side(Cuda cuda, const std::function<void()>& one, const std::function<void()>& other) {
  CudaDevice& device = gpu(cuda);
  try {
    open_other(device);
  } catch (const MemoryError&) {  // one after the other, then
    other();
    one();
    return;
  }
  check(cudaEventRecord(device.part, device.stream), "parting streams");
  check(cudaStreamWaitEvent(device.other_stream, device.part), "parting streams");
  try {
    {
      const OnTheOther on_the_other(device);
      other();
      check(cudaEventRecord(device.meet, device.stream), "joining streams");
    }
    one();
    check(cudaStreamWaitEvent(device.stream, device.meet), "joining streams");
  } catch (...) {
    // Its memory may be given to others, and a graph must not end with two streams.
    if (device.capturing) {
      cudaEventRecord(device.meet, device.other_stream);
      cudaStreamWaitEvent(device.stream, device.meet);
    } else {
      cudaStreamSynchronize(device.other_stream);
    }
    throw;
  }
}

}  // namespace cuda

namespace {

int attribute(cudaDeviceAttr of) {
  int value = 0;
  cuda::check(cudaDeviceGetAttribute(&value, of, 0), "what the GPU is");
  return value;
}
int gpu_capability() {
  return 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
         attribute(cudaDevAttrComputeCapabilityMinor);
}

// What code of this build the GPU runs: the driver takes machine code for it, or makes it of PTX for an
// older one. Whether that one has an instruction is known when it is compiled. 0: there is none.
__global__ void any_kernel() {}
int code_capability() {
  cudaFuncAttributes of{};
  const cudaError_t status = cudaFuncGetAttributes(&of, any_kernel);
  cudaGetLastError();
  return status == cudaSuccess ? of.ptxVersion : 0;
}

}  // namespace

void CudaDevice::open() {
  using cuda::check;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  require<DeviceError>(status == cudaSuccess && count > 0, "context", "there must be a GPU",
                       std::string_view(cudaGetErrorString(status)));
  check(cudaSetDevice(0), "choosing the device");
  const int capability = gpu_capability(), code = code_capability();
  require<DeviceError>(capability >= cuda::kLeastCapability, "context",
                       "the GPU must have compute capability 8.0 or more", capability / 10,
                       capability % 10);
  require<DeviceError>(
      code >= cuda::kLeastCapability, "context",
      "this build must have code that the GPU, of this compute capability, can run",
      capability / 10, capability % 10);
  const int64_t shared = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const int64_t limit = shared_limit > 0 ? std::min(shared_limit, shared) : shared;
  require<ValueError>(limit >= cuda::kLeastBlockBytes + cuda::kStaticBytes, "context",
                      "the limit of shared memory must leave what kernels need: bytes of a block",
                      limit, cuda::kLeastBlockBytes + cuda::kStaticBytes);
  gpu_forms = cuda::forms_of(code, shared);
  forms = cuda::forms_of(code, limit);
  multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  check(cublasLtCreate(&blas), "a handle");
  check(cudaMalloc(&workspace, kWorkspaceBytes), "the workspace of cuBLAS");
  check(cudaHostAlloc(&fault, sizeof(Fault), cudaHostAllocMapped), "host memory");
  *fault = {};
  check(cudaHostGetDevicePointer(&fault_on_device, fault, 0), "host memory");
  check(cudaMalloc(&noted, sizeof(int)), "memory");
  check(cudaMemsetAsync(noted, 0, sizeof(int), stream), "memory");
}

CudaDevice::~CudaDevice() {
  if (stream != nullptr) cudaStreamSynchronize(stream);
  if (blas != nullptr) cublasLtDestroy(blas);
  if (other_stream != nullptr) cudaStreamDestroy(other_stream);
  if (part != nullptr) cudaEventDestroy(part);
  if (meet != nullptr) cudaEventDestroy(meet);
  cudaFree(workspace);
  cudaFree(other_workspace);
  cudaFree(noted);
  cudaFreeHost(fault);
  if (stream != nullptr) cudaStreamDestroy(stream);
}

// One that the kernels were compiled for.
bool find_gpu() {
  int count = 0;
  const bool found = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  cudaGetLastError();
  return found && code_capability() >= cuda::kLeastCapability;
}

std::string describe_gpu(Cuda cuda) {
  cudaDeviceProp properties{};
  cuda::check(cudaGetDeviceProperties(&properties, 0), "the device's name");
  return std::string("cuda, ") + properties.name + ", products in " +
         describe(cuda::gpu(cuda).matmul_precision);
}

std::shared_ptr<CudaDevice> open_gpu(const ContextOptions& options) {
  auto gpu = std::make_shared<CudaDevice>(options);
  gpu->open();
  return gpu;
}

void synchronise(Cuda cuda) {
  CudaDevice& gpu = cuda::gpu(cuda);
  require<UsageError>(!gpu.capturing, "cuda", "what is captured into a graph cannot be waited for");
  cuda::check(cudaStreamSynchronize(gpu.stream), "waiting for the device");
  const Fault fault = *gpu.fault;
  if (fault.rule == Fault::Rule::none) return;
  *gpu.fault = {};
  cuda::check(cudaMemsetAsync(gpu.noted, 0, sizeof(int), gpu.stream), "memory");
  throw_fault(fault);
}

void run(Cuda cuda, const FromHost& args) {
  if (args.bytes == 0) return;
  require<UsageError>(!cuda::gpu(cuda).capturing, "cuda",
                      "numbers of the host cannot become part of a graph");
  cuda::check(
      cudaMemcpyAsync(args.to, args.from, args.bytes, cudaMemcpyHostToDevice, cuda::stream(cuda)),
      "copying to the device");
}

void run(Cuda cuda, const ToHost& args) {
  require<UsageError>(!cuda::gpu(cuda).capturing, "cuda",
                      "what is captured into a graph cannot be read");
  if (args.bytes > 0)
    cuda::check(
        cudaMemcpyAsync(args.to, args.from, args.bytes, cudaMemcpyDeviceToHost, cuda::stream(cuda)),
        "copying from the device");
  synchronise(cuda);
}

}  // namespace fprnn
