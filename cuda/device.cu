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

void CudaDevice::open() {
  using cuda::check;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  require<DeviceError>(status == cudaSuccess && count > 0, "context", "there must be a GPU",
                       std::string_view(cudaGetErrorString(status)));
  int major = 0, minor = 0;
  check(cudaSetDevice(0), "choosing the device");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "its capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0), "its capability");
  require<DeviceError>(major >= 9, "context", "the GPU must have compute capability 9.0 or more",
                       major, minor);
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0), "its size");
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
  int count = 0, major = 0;
  const bool found =
      cudaGetDeviceCount(&count) == cudaSuccess && count > 0 &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess;
  cudaGetLastError();
  return found && major >= 9;
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
