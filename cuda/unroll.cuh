// Loops and choices that the compiler sees as constants.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>
#include <utility>

namespace fprnn::cuda {

template <int N>
using Constant = std::integral_constant<int, N>;

// body(i) for all i < N, one after the other without a loop: what they index stays in registers.
template <int N, class Body>
__device__ __forceinline__ void unrolled(const Body& body) {
#pragma unroll
  for (int i = 0; i < N; ++i) body(i);
}

// The same of Constant<i>(), for registers whatever is around them.
template <class Visit, int... I>
__device__ __forceinline__ void each_constant(const Visit& visit,
                                              std::integer_sequence<int, I...>) {
  (visit(Constant<I>()), ...);
}
template <int N, class Visit>
__device__ __forceinline__ void each_constant(const Visit& visit) {
  each_constant(visit, std::make_integer_sequence<int, N>());
}

// visit(value as a constant); false if it is none of these.
template <int... Values, class Visit>
bool with_constant(int64_t value, const Visit& visit) {
  return ((value == Values && (visit(Constant<Values>()), true)) || ...);
}

}  // namespace fprnn::cuda
