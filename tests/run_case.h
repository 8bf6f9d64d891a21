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

// What is computed alone is what it is beside batch mates: on the CPU bit for bit. On a GPU products
// of another size may be added up in another order, so there it is within the tolerance.
constexpr double kAlone = tolerance(1e-12, 1e-5);
void check_same_alone(const std::string& name, const std::vector<real>& alone,
                      const std::vector<real>& together, double tolerance = kAlone);

}  // namespace fprnn::tests
