// How kernels of scans go through the states of some channels: a few vectors of them at a time, in
// registers from step to step. For kernel files only.
#pragma once

#include <fprnn/core/vector_math.h>

#include <type_traits>

namespace fprnn::FPRNN_ISA {

// pass(states, n) for every Count of N states, and for each of the rest.
template <int Count, class Pass>
FPRNN_INLINE void for_states(int64_t N, const Pass& pass) {
  int64_t n = 0;
  for (; n + Count <= N; n += Count) pass(std::integral_constant<int, Count>(), n);
  for (; n < N; ++n) pass(std::integral_constant<int, 1>(), n);
}

template <int Count>
FPRNN_INLINE Pack<Count> load_states(const real* from) {
  Pack<Count> x;
  repeat<Count>([&](int i) FPRNN_LAMBDA { x.v[i] = load(from + i * kLanes); });
  return x;
}
template <int Count>
FPRNN_INLINE void store_states(real* to, const Pack<Count>& x) {
  repeat<Count>([&](int i) FPRNN_LAMBDA { store(to + i * kLanes, x.v[i]); });
}

// The lanes of shares (steps, States) summed, kLanes vectors at a time, into rows that are N apart,
// with Add to what is there. What lies past the end is read, and not stored.
template <int States, bool Add>
FPRNN_INLINE void sum_lanes(const Vec* shares, int64_t count, int64_t N, real* rows) {
  for (int64_t j = 0; j < count * States; j += kLanes) {
    const Vec sum = sums(shares + j, 1);
    for (int64_t i = 0; i < minimum(kLanes, count * States - j); ++i) {
      real& to = rows[(j + i) / States * N + (j + i) % States];
      to = Add ? to + sum[i] : sum[i];
    }
  }
}

// Two copies of a pass, so that the usual one need not ask.
template <class Pass>
FPRNN_INLINE void either(bool condition, const Pass& pass) {
  if (condition) [[unlikely]]
    pass(std::true_type());
  else
    pass(std::false_type());
}

}  // namespace fprnn::FPRNN_ISA
