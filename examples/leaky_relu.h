// An op: leaky_relu(x) = x where x >= 0, else slope x.
#pragma once

#include <fprnn/autograd/tape.h>

namespace extending {

// x of any shape -> the same shape. On the CPU alone.
fprnn::Var leaky_relu(const fprnn::Var& x, fprnn::real slope);

}  // namespace extending
