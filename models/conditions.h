// What holds for one call of a layer, such as a step of training, and not for the layer.
#pragma once

#include <fprnn/core/rng.h>
#include <fprnn/core/tensor.h>

namespace fprnn {

struct Conditions {
  // Of solves: a step must not depend on solves before it, which a resumed run has not made, nor on
  // who solves best here, so the automatic solver is the sequential one; patience stops at the
  // quantile at which the authors train.
  bool training = false;
  int64_t iteration_cap = 0;  // of each solve; 0: the layer's own
  // (B, T): 0 where a step forgets its cell's state, else 1. Undefined: none does. ValueError: a
  // layer that cannot.
  Tensor state_mask = {};
};

// A cap on the iterations of a batch drawn from Gamma(shape, scale), rounded up: the paper trains
// with (4, 1). shape is a whole number. ValueError: below 1, or scale not positive.
int64_t draw_iteration_cap(int64_t shape, double scale, Rng& rng);

// State dropout, a regulariser of training: with probability `rate` a step forgets its cell's state
// (where there is one besides y), drawn anew for each token. What lasts must then be carried by
// y_{t-1}, which does not fade with time as a scan does, and so reaches beyond the length that was
// trained.
void draw_state_mask(double rate, Rng rng, const Tensor& mask);  // ValueError: as below
void check_state_dropout(double rate);                           // ValueError: outside [0, 1]

}  // namespace fprnn
