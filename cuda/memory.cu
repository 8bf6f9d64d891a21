// Device memory in stream order: all work of a Context runs on one stream, so a block can be handed
// out again the moment it is released, before the kernels that use it have run. (What runs side by
// side, cuda/device.cuh, gives no memory back.)
#include <fprnn/core/check.h>
#include <fprnn/cuda/memory.cuh>

#include <utility>

namespace fprnn {

void* DeviceMemory::take(int size_index) noexcept {
  const std::lock_guard lock(lock_);
  std::vector<void*>& unused = shelf_->unused[size_index];
  if (unused.empty()) return nullptr;
  void* block = unused.back();
  unused.pop_back();
  return block;
}

// Back to the shelf that it was made for.
void DeviceMemory::keep(void* block, int size_index) noexcept {
  const std::lock_guard lock(lock_);
  owners_.at(block)->unused[size_index].push_back(block);
}

void* DeviceMemory::system_allocate(int64_t bytes) {
  const std::lock_guard lock(lock_);
  void* block = nullptr;
  const cudaError_t status = cudaMalloc(&block, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  cuda::check(status, "memory");
  owners_.emplace(block, shelf_);
  return block;
}

// NaN of either real, and -1 of integers, is all ones.
void DeviceMemory::poison(void* block, int64_t bytes) {
  cuda::check(cudaMemsetAsync(block, 0xFF, bytes, gpu_->stream), "poisoning");
}

void DeviceMemory::trim() noexcept {
  const std::lock_guard lock(lock_);
  if (gpu_->capturing) return;
  cudaStreamSynchronize(gpu_->stream);
  clear(*common_);
}

void DeviceMemory::clear(Shelf& shelf) noexcept {
  for (int index = 0; index < kSizes; ++index) {
    for (void* block : shelf.unused[index]) {
      cudaFree(block);
      owners_.erase(block);
      forget(size_of(index));
    }
    shelf.unused[index].clear();
  }
}

DeviceMemory::~DeviceMemory() { trim(); }

std::shared_ptr<DeviceMemory::Shelf> DeviceMemory::set_apart() {
  const std::lock_guard lock(lock_);
  return shelf_ = std::make_shared<Shelf>();
}

void DeviceMemory::set_apart_no_more() {
  const std::lock_guard lock(lock_);
  shelf_ = common_;
}

void DeviceMemory::give_up(const std::shared_ptr<Shelf>& shelf) noexcept {
  const std::lock_guard lock(lock_);
  for (int index = 0; index < kSizes; ++index) {
    std::vector<void*>& unused = shelf->unused[index];
    common_->unused[index].insert(common_->unused[index].end(), unused.begin(), unused.end());
    unused.clear();
  }
  for (auto& [block, owner] : owners_)
    if (owner == shelf) owner = common_;
}

std::unique_ptr<Memory> gpu_memory(std::shared_ptr<CudaDevice> gpu, const ContextOptions& options) {
  return std::make_unique<DeviceMemory>(std::move(gpu), options.byte_limit, options.poison);
}

}  // namespace fprnn
