// The arena of a GPU's Context (core/memory.h).
#pragma once

#include <fprnn/core/memory.h>
#include <fprnn/cuda/device.cuh>

#include <memory>
#include <unordered_map>
#include <vector>

namespace fprnn {

class DeviceMemory final : public Memory {
 public:
  DeviceMemory(std::shared_ptr<CudaDevice> gpu, int64_t byte_limit, bool poison)
      : Memory(byte_limit, poison), gpu_(std::move(gpu)) {}
  ~DeviceMemory() override;
  void trim() noexcept override;

  // A graph's memory is set apart: what is allocated while it is captured serves every replay, so
  // nobody else may have it before the graph is gone.
  struct Shelf {
    std::array<std::vector<void*>, kSizes> unused;
  };
  std::shared_ptr<Shelf> set_apart();  // from now on
  void set_apart_no_more();
  void give_up(const std::shared_ptr<Shelf>& shelf) noexcept;  // the graph is gone

 private:
  void* take(int size_index) noexcept override;
  void keep(void* block, int size_index) noexcept override;
  void* system_allocate(int64_t bytes) override;
  void poison(void* block, int64_t bytes) override;
  void clear(Shelf& shelf) noexcept;

  std::shared_ptr<CudaDevice> gpu_;
  std::mutex lock_;
  std::shared_ptr<Shelf> common_ = std::make_shared<Shelf>(), shelf_ = common_;
  std::unordered_map<void*, std::shared_ptr<Shelf>> owners_;
};

}  // namespace fprnn
