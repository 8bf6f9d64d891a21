// A solution of y = f(y) as a value: what a solver returns, and what it knows of it besides.
#pragma once

#include <fprnn/autograd/iterate.h>
#include <fprnn/autograd/var.h>

#include <vector>

namespace fprnn {

// Values with histories, in an order that whoever takes them says.
using Vars = std::vector<Var>;

// f as the gradient needs it: step(y, inputs) uses those two alone. It is called with other Vars
// than its maker had, which may be undefined where step knows what that means.
using Step = std::function<Evaluated<Var>(const Var& y, const Vars& inputs)>;

// The exact gradient's v = g + J^T v with J = df / dy at a solution, where a solver knows more of J
// than products with it, and how often each sequence needed a product with J^T, undefined if once.
struct AdjointSolution {
  Tensor v;              // (B, T, D)
  IntTensor iterations;  // (B)
  AdjointSolution(Tensor v, IntTensor iterations = {})
      : v(std::move(v)), iterations(std::move(iterations)) {}
};
using Adjoint = std::function<AdjointSolution(const Tensor& g)>;

struct Solution {
  Tensor y;                // (B, T, D)
  IntTensor iterations;    // (B): how often each sequence needed f
  Tensor residual = {};    // (B), of the whole f at y, if the solver has applied f to y itself
  IntTensor settled = {};  // (B), of a solver that knows: how many positions have settled
  // f at y from what the solver has computed on the way, for the record; without it f is applied
  // once more.
  Step trace = {};
  Adjoint adjoint = {};  // without one the exact gradient is iterated
};
// start is the solver's to let go.
using Solve = std::function<Solution(const Map& f, Tensor start)>;

}  // namespace fprnn
