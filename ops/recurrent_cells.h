// One step of each cell and its gradient, written once for both directions of a sweep, for V = Vec
// or, on a GPU, one real. x and s are the two parts of the pre-activations; `carry` is c in the LSTM
// and h in the GRU (ops/recurrent.h). Derivation: ops/recurrent.md.
#pragma once

#include <fprnn/core/real.h>

namespace fprnn::FPRNN_ISA {

template <class V>
struct CellStep {
  V h, carry;
  V saved[4];  // what cotangents takes
};
template <class V, int G>
struct CellCotangents {
  V dx[G], ds[G];
  V dcarry;  // of the carry before the step, but for what reaches it through s
};

struct LstmCell {
  static constexpr int kGates = 4;
  static constexpr bool kCarriesC = true;

  template <class V>
  FPRNN_INLINE static CellStep<V> step(const V* x, const V* s, const V& before) {
    const V i = sigmoid(x[0] + s[0]), f = sigmoid(x[1] + s[1]), g = tanh(x[2] + s[2]),
            o = sigmoid(x[3] + s[3]);
    const V c = f * before + i * g;
    return {o * tanh(c), c, {i, f, g, o}};
  }
  // dcarry reaches c from after the step.
  template <class V>
  FPRNN_INLINE static CellCotangents<V, kGates> cotangents(const V* saved, const V& before,
                                                           const V& carry, const V& dh,
                                                           const V& dcarry) {
    const V i = saved[0], f = saved[1], g = saved[2], o = saved[3], read = tanh(carry);
    const V dc = dcarry + dh * o * ((1 - read) * (1 + read));
    CellCotangents<V, kGates> of;
    of.dx[0] = of.ds[0] = dc * g * (i * (1 - i));
    of.dx[1] = of.ds[1] = dc * before * (f * (1 - f));
    of.dx[2] = of.ds[2] = dc * i * ((1 - g) * (1 + g));
    of.dx[3] = of.ds[3] = dh * read * (o * (1 - o));
    of.dcarry = dc * f;
    return of;
  }
};

struct GruCell {
  static constexpr int kGates = 3;
  static constexpr bool kCarriesC = false;

  template <class V>
  FPRNN_INLINE static CellStep<V> step(const V* x, const V* s, const V& before) {
    const V r = sigmoid(x[0] + s[0]), z = sigmoid(x[1] + s[1]), n = tanh(x[2] + r * s[2]);
    const V h = (1 - z) * n + z * before;
    return {h, h, {r, z, n, s[2]}};
  }
  // The carry is h: dh has all that reaches it.
  template <class V>
  FPRNN_INLINE static CellCotangents<V, kGates> cotangents(const V* saved, const V& before,
                                                           const V& /*carry*/, const V& dh,
                                                           const V& /*dcarry*/) {
    const V r = saved[0], z = saved[1], n = saved[2];
    CellCotangents<V, kGates> of;
    of.dx[2] = dh * (1 - z) * ((1 - n) * (1 + n));
    of.ds[2] = of.dx[2] * r;
    of.dx[0] = of.ds[0] = of.dx[2] * saved[3] * (r * (1 - r));
    of.dx[1] = of.ds[1] = dh * (before - n) * (z * (1 - z));
    of.dcarry = dh * z;
    return of;
  }
};

}  // namespace fprnn::FPRNN_ISA
