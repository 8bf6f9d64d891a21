// What the golden cases of fixed-point layers share.
#pragma once

#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/ops/layout.h>

#include "golden_case.h"

namespace fprnn::golden {

inline MixerKind mixer_of(const Json& spec) {
  const std::string name = spec.at("mixer_type");
  return name == "householderproduct" ? MixerKind::householder : mixer_named(name);
}

// As near as the build's numbers allow: the cases' own fixed points have residuals below 1e-11.
inline SolverOptions solver_of(const Json& spec) {
  const std::string gradient = spec.value("gradient", "one_step");
  return {.tolerance = kDouble ? real(1e-12) : real(3e-7),
          .max_iterations = 2000,
          .gradient = gradient_named(gradient == "exact" ? "exact" : "one-step"),
          .unconverged = Unconverged::accept};
}

constexpr real kNear = kDouble ? real(1e-10) : real(1e-5);

// The whole layer with either solver: its output, its fixed point and all gradients.
template <class Layer, class Options>
void run_layer(Case& c, const Options& options, const std::string& fixed_point) {
  Rng rng;
  Module root;
  Layer layer(root, "layer", {c.context, rng}, options);
  c.load(layer);
  const Var x = c.input("x");
  for (const Solver solver : {Solver::sequential, Solver::parallel}) {
    layer.solver.solver = solver;
    const Var y = layer.forward(x);
    // Undamped iteration need not converge where the sequential solver does.
    if (solver == Solver::parallel && !(layer.report().max_residual() <= kNear)) continue;
    c.compare_output(layer.solution(), fixed_point);
    c.check(y);
  }
}

}  // namespace fprnn::golden
