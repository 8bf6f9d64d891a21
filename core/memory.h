// The arena behind every tensor: blocks are kept when released and handed out again, so a training
// step that repeats its shapes asks the system for nothing after the first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace fprnn {

struct MemoryStatistics {
  int64_t bytes_in_use = 0;        // in live tensors, rounded to block sizes
  int64_t bytes_reserved = 0;      // in use or kept for reuse
  int64_t peak_bytes = 0;          // the largest bytes_in_use so far
  int64_t system_allocations = 0;  // blocks asked from the system so far
};

class Memory {
 public:
  // byte_limit bounds bytes_reserved, 0 for none. poison fills each block handed out with NaN.
  Memory(int64_t byte_limit, bool poison) : byte_limit_(byte_limit), poison_(poison) {}
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // A block of at least this many bytes, aligned to 64. MemoryError beyond the limit or the machine;
  // what was allocated before stays valid and the arena usable.
  void* allocate(int64_t bytes);
  void release(void* block, int64_t bytes) noexcept;  // bytes as given to allocate
  void trim() noexcept;                               // returns the unused blocks to the system
  MemoryStatistics statistics() const;

 private:
  struct Bin {  // all blocks of one size
    std::vector<void*> unused;
    size_t total = 0;
  };
  void trim_locked() noexcept;

  mutable std::mutex mutex_;
  std::map<int64_t, Bin> bins_;  // by block size
  MemoryStatistics statistics_;
  int64_t byte_limit_;
  bool poison_;
};

}  // namespace fprnn
