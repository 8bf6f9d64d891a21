// How work is cut into pieces, on every device: their borders depend on the problem alone, so
// whatever is summed or rounded within a piece is always the same.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fprnn {

// Elements of simple work in a piece: large enough that starting a thread for it pays.
inline constexpr int64_t kGrain = 8192;

inline int64_t pieces(int64_t count, int64_t grain) { return (count + grain - 1) / grain; }

// How many of these units, each of `cost` elementary operations, make a piece worth a thread.
inline int64_t grain_for(int64_t cost) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cost));
}

}  // namespace fprnn
