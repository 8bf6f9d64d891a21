#include <fprnn/core/check.h>
#include <fprnn/core/memory.h>
#include <fprnn/core/real.h>

#ifdef __linux__
#include <sys/mman.h>
#endif
#include <omp.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <new>
#include <thread>

namespace fprnn {

namespace {
constexpr int64_t kSmallest = 256;
}

Memory::BlockSize Memory::block_size(int64_t bytes) {
  if (bytes <= kSmallest) return {0, kSmallest};
  const int64_t below = std::bit_floor(static_cast<uint64_t>(bytes - 1)), step = below / 4;
  const int64_t steps = (bytes - below + step - 1) / step;  // 1 to 4
  const int octave = std::countr_zero(static_cast<uint64_t>(below / kSmallest));
  return {4 * octave + static_cast<int>(steps), below + steps * step};
}
int64_t Memory::size_of(int index) {
  if (index == 0) return kSmallest;
  const int64_t below = kSmallest << ((index - 1) / 4);
  return below + (index - 1) % 4 * (below / 4) + below / 4;
}

void* Memory::from_system(int64_t size) {
  const std::lock_guard lock(system_);
  if (byte_limit_ > 0 && bytes_reserved_ + size > byte_limit_) trim();
  require<MemoryError>(byte_limit_ == 0 || bytes_reserved_ + size <= byte_limit_, "memory",
                       "the byte limit must hold the request beside what is in use", byte_limit_,
                       size, bytes_in_use_.load());
  void* block = system_allocate(size);
  if (block == nullptr) {
    trim();
    block = system_allocate(size);
  }
  require<MemoryError>(block != nullptr, "memory", "the system must provide the bytes", size);
  bytes_reserved_ += size;
  ++system_allocations_;
  return block;
}

void* Memory::allocate(int64_t bytes) {
  require<MemoryError>(bytes >= 0 && bytes <= std::numeric_limits<int64_t>::max() / 2, "memory",
                       "a tensor's bytes must fit the address space", bytes);
  const BlockSize size = block_size(bytes);
  void* block = take(size.index);
  if (block == nullptr) block = from_system(size.bytes);
  allocated_bytes_ += size.bytes;
  const int64_t in_use = bytes_in_use_ += size.bytes;
  for (int64_t peak = peak_bytes_; peak < in_use;)
    if (peak_bytes_.compare_exchange_weak(peak, in_use)) break;
  if (poison_) poison(block, size.bytes);
  return block;
}

void Memory::release(void* block, int64_t bytes) noexcept {
  const BlockSize size = block_size(bytes);
  bytes_in_use_ -= size.bytes;
  keep(block, size.index);
}

MemoryStatistics Memory::statistics() const {
  return {bytes_in_use_, bytes_reserved_, peak_bytes_, system_allocations_, allocated_bytes_};
}

namespace {

// Large blocks ask for huge pages where the system grants them: tensors are gone through in
// strides, and with pages of 4 KiB nearly every row of a large one would miss the table of recent
// pages.
constexpr int64_t kHugePage = 2 << 20;

std::align_val_t alignment(int64_t size) {
  return static_cast<std::align_val_t>(size >= kHugePage ? kHugePage : 64);
}

}  // namespace

void HostMemory::SpinLock::lock() noexcept {
  for (int tries = 0; taken_.test_and_set(std::memory_order_acquire);)
    if (++tries % 64 == 0) std::this_thread::yield();
}

HostMemory::~HostMemory() { trim(); }

// That of the thread of the outermost parallel loop, or the first outside of any.
HostMemory::Shelf& HostMemory::own_shelf() {
  return shelves_[std::max(0, omp_get_ancestor_thread_num(1)) % kShelves];
}

void* HostMemory::take(Shelf& shelf, int size_index) noexcept {
  const std::lock_guard lock(shelf.lock);
  Block*& first = shelf.unused[size_index];
  Block* block = first;
  if (block != nullptr) first = block->next;
  return block;
}

void* HostMemory::take(int size_index) noexcept {
  void* block = take(own_shelf(), size_index);
  for (int i = 0; block == nullptr && i < kShelves; ++i) block = take(shelves_[i], size_index);
  return block;
}

void HostMemory::keep(void* block, int size_index) noexcept {
  Shelf& shelf = own_shelf();
  const std::lock_guard lock(shelf.lock);
  Block*& first = shelf.unused[size_index];
  first = new (block) Block{first};
}

void* HostMemory::system_allocate(int64_t size) {
  void* block = ::operator new(size, alignment(size), std::nothrow);
#ifdef __linux__
  if (block != nullptr && size >= kHugePage) madvise(block, size, MADV_HUGEPAGE);
#endif
  return block;
}

void HostMemory::poison(void* block, int64_t size) {
  std::fill_n(static_cast<real*>(block), size / sizeof(real),
              std::numeric_limits<real>::quiet_NaN());
}

void HostMemory::trim() noexcept {
  for (Shelf& shelf : shelves_) {
    const std::lock_guard lock(shelf.lock);
    for (int index = 0; index < kSizes; ++index)
      while (Block* block = shelf.unused[index]) {
        shelf.unused[index] = block->next;
        const int64_t size = size_of(index);
        forget(size);
        ::operator delete(block, alignment(size));
      }
  }
}

}  // namespace fprnn
