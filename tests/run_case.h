// Running an entry of the op table: draw its inputs, call the op, ask for every gradient.
#pragma once

#include "op_table.h"

namespace fprnn::tests {

using Values = std::vector<std::vector<real>>;

struct Result {
  std::vector<Shape> shapes;  // of the outputs
  Values outputs;
  Values seeds;            // the cotangents of the outputs
  Values gradients;        // of the differentiable inputs, in their order
  bool unchanged = false;  // inputs and seeds hold what they held before
};

Values draw_inputs(const OpCase& entry);

// With no seeds given they are drawn from the outputs' shapes.
Result run_case(const Context& context, const OpCase& entry, const Values& inputs,
                Values seeds = {});

// The inputs as the reference sees them.
Arrays arrays_of(const OpCase& entry, const Values& inputs);

bool same_bits(const std::vector<real>& x, const std::vector<real>& y);
bool same_bits(const Values& x, const Values& y);

}  // namespace fprnn::tests
