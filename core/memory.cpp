#include <fprnn/core/check.h>
#include <fprnn/core/memory.h>
#include <fprnn/core/real.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <new>

namespace fprnn {

namespace {

constexpr std::align_val_t kAlignment{64};

// Block sizes are powers of two and three steps between them, so at most a fifth is wasted and blocks
// of nearly equal tensors are interchangeable.
int64_t block_size(int64_t bytes) {
  if (bytes <= 256) return 256;
  const int64_t step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes - 1))) / 4;
  return (bytes + step - 1) / step * step;
}

}  // namespace

Memory::~Memory() { trim(); }

void* Memory::allocate(int64_t bytes) {
  require<MemoryError>(bytes >= 0 && bytes <= std::numeric_limits<int64_t>::max() / 2, "memory",
                       "a tensor's bytes must fit the address space", bytes);
  const int64_t size = block_size(bytes);
  void* block = nullptr;
  {
    const std::lock_guard lock(mutex_);
    Bin& bin = bins_[size];
    if (!bin.unused.empty()) {
      block = bin.unused.back();
      bin.unused.pop_back();
    } else {
      if (byte_limit_ > 0 && statistics_.bytes_reserved + size > byte_limit_) trim_locked();
      require<MemoryError>(byte_limit_ == 0 || statistics_.bytes_reserved + size <= byte_limit_,
                           "memory", "the byte limit must hold the request beside what is in use",
                           byte_limit_, size, statistics_.bytes_in_use);
      bin.unused.reserve(bin.total + 1);  // so that release cannot fail
      block = ::operator new(size, kAlignment, std::nothrow);
      require<MemoryError>(block != nullptr, "memory", "the system must provide the bytes", size);
      ++bin.total;
      statistics_.bytes_reserved += size;
      ++statistics_.system_allocations;
    }
    statistics_.bytes_in_use += size;
    statistics_.peak_bytes = std::max(statistics_.peak_bytes, statistics_.bytes_in_use);
  }
  if (poison_)
    std::fill_n(static_cast<real*>(block), size / sizeof(real),
                std::numeric_limits<real>::quiet_NaN());
  return block;
}

void Memory::release(void* block, int64_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  const int64_t size = block_size(bytes);
  statistics_.bytes_in_use -= size;
  bins_.find(size)->second.unused.push_back(block);
}

void Memory::trim() noexcept {
  const std::lock_guard lock(mutex_);
  trim_locked();
}

void Memory::trim_locked() noexcept {
  for (auto& [size, bin] : bins_) {
    for (void* block : bin.unused) ::operator delete(block, kAlignment);
    statistics_.bytes_reserved -= size * static_cast<int64_t>(bin.unused.size());
    bin.total -= bin.unused.size();
    bin.unused.clear();
  }
}

MemoryStatistics Memory::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

}  // namespace fprnn
