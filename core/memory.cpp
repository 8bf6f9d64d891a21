#include <fprnn/core/check.h>
#include <fprnn/core/memory.h>
#include <fprnn/core/real.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <bit>
#include <limits>
#include <new>

namespace fprnn {

namespace {

// Large blocks ask for huge pages where the system grants them: tensors are gone through in strides, and
// with pages of 4 KiB nearly every row of a large one would miss the table of recent pages.
constexpr int64_t kHugePage = 2 << 20;

std::align_val_t alignment(int64_t size) {
  return static_cast<std::align_val_t>(size >= kHugePage ? kHugePage : 64);
}

void* system_allocate(int64_t size) {
  void* block = ::operator new(size, alignment(size), std::nothrow);
#ifdef __linux__
  if (block != nullptr && size >= kHugePage) madvise(block, size, MADV_HUGEPAGE);
#endif
  return block;
}

void system_release(void* block, int64_t size) noexcept {
  ::operator delete(block, alignment(size));
}

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
      block = system_allocate(size);
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
    for (void* block : bin.unused) system_release(block, size);
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
