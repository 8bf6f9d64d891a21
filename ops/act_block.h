// A block of sequences on its way through time: what ops/act.cpp hands to the kernels, which go on
// where they stopped when there is room for more cells. For kernel files only.
#pragma once

#include <fprnn/ops/act.h>

namespace fprnn {

inline constexpr int64_t kActSequences = 16;  // of a block, at most; no fewer than a vector's lanes

// Where one sequence is.
struct ActPlace {
  int64_t sequence;  // of the block
  int64_t t, n;      // the token, and the cell of it, from 1
  int64_t cell;      // of the sequence, from 0
  real sum;          // forward: p_1 + .. + p_{n-1}. Backward: the cotangent of R
  const real* h;     // forward: the state that the cell starts from, null for zero
  const real* c;
};

struct ActBlock {
  int64_t begin, sequences;        // of the batch
  int64_t active = 0;              // the places of those that are not at their end come first
  ActPlace places[kActSequences];  // in no order
};

// Where a cell's numbers stand.
struct ActRoom {
  real* const* chunks;  // (rounds, sequences, numbers of a cell) each
  int64_t rounds;       // of a chunk
  int64_t first = 0;    // the round of the first chunk's first
};

}  // namespace fprnn
