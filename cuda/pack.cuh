// Width neighbouring reals that are read and written at once. A kernel takes as many as make 16
// bytes (a Quad) or 8 where the address allows it, else one, with the same code.
#pragma once

#include <fprnn/cuda/math.cuh>

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

}  // namespace fprnn::cuda
