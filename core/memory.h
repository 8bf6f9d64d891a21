// The arena behind every tensor: blocks are kept when released and handed out again, so a training
// step that repeats its shapes asks the system for nothing after the first.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace fprnn {

// What an arena has and has done, in bytes and blocks.
struct MemoryStatistics {
  int64_t bytes_in_use = 0;        // in live tensors, rounded to block sizes
  int64_t bytes_reserved = 0;      // in use or kept for reuse
  int64_t peak_bytes = 0;          // the largest bytes_in_use so far
  int64_t system_allocations = 0;  // blocks asked from the system so far
  int64_t allocated_bytes = 0;     // handed out so far, however often the same
};

// The memory of a Context's device.
class Memory {
 public:
  // byte_limit bounds bytes_reserved, 0 for none. poison fills each block handed out with NaN.
  Memory(int64_t byte_limit, bool poison) : byte_limit_(byte_limit), poison_(poison) {}
  virtual ~Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // A block of at least this many bytes, aligned to 64. MemoryError beyond the limit or the device;
  // what was allocated before stays valid and the arena usable.
  void* allocate(int64_t bytes);
  void release(void* block, int64_t bytes) noexcept;  // bytes as given to allocate
  virtual void trim() noexcept = 0;                   // returns the unused blocks to the system
  MemoryStatistics statistics() const;

 protected:
  // Sizes are powers of two and three steps between them, so at most a fifth is wasted and blocks
  // of nearly equal tensors are interchangeable.
  struct BlockSize {
    int index;      // its place in order
    int64_t bytes;  // of a block
  };
  static constexpr int kSizes = 4 * (63 - 8) + 1;
  static BlockSize block_size(int64_t bytes);
  static int64_t size_of(int index);

  virtual void* take(int size_index) noexcept = 0;  // an unused block, null if there is none
  virtual void keep(void* block, int size_index) noexcept = 0;  // for reuse
  virtual void* system_allocate(int64_t bytes) = 0;             // null where there is no more
  virtual void poison(void* block, int64_t bytes) = 0;          // with NaN
  void forget(int64_t bytes) { bytes_reserved_ -= bytes; }  // of a block that went to the system

 private:
  void* from_system(int64_t size);

  std::mutex system_;  // guards the growth of bytes_reserved
  std::atomic<int64_t> bytes_in_use_{0}, bytes_reserved_{0}, peak_bytes_{0}, system_allocations_{0},
      allocated_bytes_{0};
  int64_t byte_limit_;
  bool poison_;
};

// Each thread has a shelf of unused blocks, so that it gets back the block that it has just
// released and that its cache still holds. If its shelf has none, it takes from another's before it
// asks the system.
class HostMemory final : public Memory {
 public:
  using Memory::Memory;
  ~HostMemory() override;
  void trim() noexcept override;

 private:
  void* take(int size_index) noexcept override;
  void keep(void* block, int size_index) noexcept override;
  void* system_allocate(int64_t bytes) override;
  void poison(void* block, int64_t bytes) override;

  struct Block {  // an unused one: its first bytes point to the next
    Block* next;
  };
  // A lock for the few instructions that take a block from a list: sleeping for it costs more.
  class SpinLock {
   public:
    void lock() noexcept;
    void unlock() noexcept { taken_.clear(std::memory_order_release); }

   private:
    std::atomic_flag taken_ = ATOMIC_FLAG_INIT;
  };
  struct alignas(64) Shelf {
    SpinLock lock;
    std::array<Block*, kSizes> unused{};  // by size
  };
  static constexpr int kShelves = 16;  // threads beyond share them

  Shelf& own_shelf();
  static void* take(Shelf& shelf, int size_index) noexcept;

  std::array<Shelf, kShelves> shelves_;
};

}  // namespace fprnn
