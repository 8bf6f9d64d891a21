// One time step of a fixed-point layer, all of whose past is known:
//   y = N(offset + gain . ((I - Q) y))
// with N a LayerNorm over D, or the identity, and Q a channel mixer. Tokens do not meet.
#pragma once

#include <fprnn/autograd/solution.h>
#include <fprnn/autograd/tape.h>

namespace fprnn {

class Mixer;

// Q at every token: unit vectors u (..., r, D) and alpha (..., r), the two Kronecker factors, or
// what a mixer of one's own makes.
using MixerFactors = Vars;

struct StepEquation {
  MixerFactors q;
  Var offset, gain;            // (rows, T, D)
  Var norm_weight, norm_bias;  // (D); undefined: N is the identity
  real eps;
};

// The right-hand side at y (rows, T, D).
Var apply(const StepEquation& at, const Mixer& mixer, const Var& y);

// The fixed point of a map of rows, from y on, to the tolerance; a row's step is halved where it
// does not help. counts, one a row, are raised to the number of iterations.
Tensor iterate_rows(const Map& map, const Tensor& y, real tolerance, int64_t max_iterations,
                    const IntTensor& counts);

}  // namespace fprnn
