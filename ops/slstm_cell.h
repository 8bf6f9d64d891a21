// One step of the sLSTM's cell and its gradient, for V = Vec or, on a GPU, one real. `saved` is what
// ops/slstm.h says: i, f, tanh(a_z), sigmoid(a_o), the slope of ln sigmoid(a_f), c and n. Derivation:
// ops/slstm.md.
#pragma once

#include <fprnn/core/real.h>

namespace fprnn::FPRNN_ISA {

template <class V>
struct SlstmMemory {
  V c, n, m;
};
// What goes back through time; dh is complete before a step.
template <class V>
struct SlstmCarried {
  V dh, dc, dn, dm;
};

// From the gates' arguments; returns h.
template <class V>
FPRNN_INLINE V slstm_step(const V (&a)[4], SlstmMemory<V>& memory, V (&saved)[7]) {
  const auto softplus = softplus_with_slope(-a[1]);
  const V keep = memory.m - softplus.value, m = larger(keep, a[0]);
  const V input = exp(a[0] - m), forget = exp(keep - m), z = tanh(a[2]), o = sigmoid(a[3]);
  const V c = forget * memory.c + input * z;
  const V n = forget * memory.n + input;
  memory = {c, n, m};
  const V of[] = {input, forget, z, o, softplus.slope, c, n};
  for (int k = 0; k < 7; ++k) saved[k] = of[k];
  return o * c / n;
}

// Cotangents of the gates' arguments; c and n are those before the step. `carried` becomes what
// reaches the step before, but for what reaches its h through the gates.
template <class V>
FPRNN_INLINE void slstm_cotangents(const V (&saved)[7], const V& c, const V& n,
                                   SlstmCarried<V>& carried, V (&da)[4]) {
  const V input = saved[0], forget = saved[1], z = saved[2], o = saved[3];
  const V inverse = 1 / saved[6], read = saved[5] * inverse;
  const V dh = carried.dh, dm = carried.dm;
  const V dc = carried.dc + dh * o * inverse;
  const V dn = carried.dn - dh * o * read * inverse;
  const V dforget = dc * c + dn * n;
  const auto kept = input < real(1);  // the forget gate won m's maximum
  da[0] = (dc * z + dn) * input + select(kept, V{}, dm);
  da[1] = (dforget * forget + select(kept, dm, V{})) * saved[4];
  da[2] = dc * input * ((1 - z) * (1 + z));
  da[3] = dh * read * (o * (1 - o));
  carried = {V{}, dc * forget, dn * forget, select(kept, dm, V{})};
}

}  // namespace fprnn::FPRNN_ISA
