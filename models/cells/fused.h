// Faster forms of a fixed-point layer over one cell (models/fixed_point_map.h): kernels that do
// several of its ops at once. Each is optional, for some mixers and sizes; the definitions hold
// where there is none.
#pragma once

#include <fprnn/autograd/gradient_rule.h>
#include <fprnn/autograd/solution.h>
#include <fprnn/models/fixed_point_map.h>

#include <memory>
#include <optional>

namespace fprnn {

// What a sweep has computed of f at its solution, each form its own.
struct Trace {
  virtual ~Trace() = default;
};

// A sweep through time, of values: y solved step by step.
struct SweepRequest {
  const Tensor& y;  // (B, T, D): what becomes the solution
  real tolerance;   // of each step
  int64_t max_iterations;
  bool traced;        // whether f will be recorded at y
  bool carry_wanted;  // whether anybody goes on from the last step
};
struct Swept {
  IntTensor iterations;                // (B): the most of any step
  Tensor residual;                     // (B): the largest of any step, of the whole f at y
  Tensor carry;                        // the cell's, out of the last step; undefined unless wanted
  std::shared_ptr<const Trace> trace;  // null if it was not asked for, or there is none
};

// A sweep back in time at the solution y, which turns a cotangent g into v = g + J^T v.
struct SweepBackRequest {
  const Tensor& y;  // (B, T, D)
  const Tensor& v;  // (B, T, D): g, which becomes v
  // (B): raised to the most of any step's own equation, where those are iterated, by the rule.
  const IntTensor& iterations;
  const GradientRule& rule;
  const Trace* trace;  // of the sweep that found y, or null
};

// The forms of one cell. Each returns nothing, or false, where it has no kernel for mixer and sizes.
class FusedForms {
 public:
  virtual ~FusedForms() = default;
  // f at y, recorded from what a trace has of it, which may be null.
  virtual std::optional<FixedPointMap::Applied> apply(const FixedPointMap&, const Var& /*y*/,
                                                      const Past&, const FixedPointInputs&,
                                                      const Trace*) const {
    return std::nullopt;
  }
  // y of all steps in order, solved in place.
  virtual std::optional<Swept> sweep(const FixedPointMap&, const Past&, const FixedPointInputs&,
                                     const SweepRequest&) const {
    return std::nullopt;
  }
  // Whether it has been done.
  virtual bool sweep_back(const FixedPointMap&, const Past&, const FixedPointInputs&,
                          const SweepBackRequest&) const {
    return false;
  }
};

}  // namespace fprnn
