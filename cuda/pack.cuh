// Width neighbouring reals that are read and written at once. A kernel takes as many as make 16
// bytes (a Quad) or 8 where the address allows it, else one, with the same code.
#pragma once

#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/unroll.cuh>

namespace fprnn::cuda {

template <int Width>
struct alignas(Width * sizeof(real)) Pack {
  real v[Width];
};
template <int Width>
FPRNN_HOST_DEVICE const Pack<Width>* packs(const real* x) {
  return reinterpret_cast<const Pack<Width>*>(x);
}
template <int Width>
FPRNN_HOST_DEVICE Pack<Width>* packs(real* x) {
  return reinterpret_cast<Pack<Width>*>(x);
}

// visit(width), a constant: Widest where rows of this length and their addresses allow it, else 1.
template <int Widest = Quad::kCount, class Visit>
void with_width(int64_t length, bool aligned, const Visit& visit) {
  if (aligned && length % Widest == 0)
    visit(Constant<Widest>());
  else
    visit(Constant<1>());
}

// The same within a kernel.
template <class Visit>
__device__ __forceinline__ void with_quads(bool quads, const Visit& visit) {
  if (quads)
    visit(Constant<Quad::kCount>());
  else
    visit(Constant<1>());
}

}  // namespace fprnn::cuda
