// The fixed-point layers in all their variations, for tests that ask the same of each.
#pragma once

#include <fmt/format.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/fp_delta_net.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/fp_mamba2.h>
#include <fprnn/models/fp_rnn.h>
#include <fprnn/ops/elementwise.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

constexpr int64_t kWidth = 8, kBatch = 3, kTime = 7;
constexpr real kSolveTolerance = kDouble ? real(1e-13) : real(1e-6);
constexpr double kSame = kDouble ? 1e-10 : 1e-4;          // two ways to one answer
constexpr double kSameGradient = kDouble ? 1e-10 : 1e-3;  // two ways to one gradient

inline const FpMambaOptions kMamba{.d_model = kWidth, .d_state = 4, .scale = 1};
inline const FpRnnOptions kRnn{.d_model = kWidth, .scale = 1};

struct Case {
  std::string name;
  std::function<std::unique_ptr<FixedPointLayer>(Module&, const Init&)> make;
  bool plain = false;  // a mixer as it comes, no switch changed
};

inline Case mamba_case(std::string name, const FpMambaOptions& options) {
  return {"mamba " + name, [options](Module& parent, const Init& init) {
            return std::make_unique<FpMamba>(parent, "layer", init, options);
          }};
}
template <class Layer, class Options>
Case block_case(std::string name, const Options& options) {
  return {std::move(name), [options](Module& parent, const Init& init) {
            return std::make_unique<Layer>(parent, "layer", init, options);
          }};
}
inline Case rnn_case(std::string name, const FpRnnOptions& options) {
  return {"rnn " + name, [options](Module& parent, const Init& init) {
            return std::make_unique<FpRnn>(parent, "layer", init, options);
          }};
}

// The options with one of them changed.
template <class Options, class Change>
Options with(Options options, const Change& change) {
  change(options);
  return options;
}

// Every mixer as it comes, and every switch with a low-rank and a full-rank mixer.
std::vector<Case> mamba_cases();
std::vector<Case> rnn_cases();
std::vector<Case> block_cases();  // those of FpBlock
std::vector<Case> all_cases();

// A layer with the memory that it stands on. Nothing is left at zero or one; x is larger and the LayerNorm in
// the loop smaller than at the start, so that the fixed point is the only one.
struct Built {
  Context context;
  Rng rng{.seed = 3, .stream = 0};
  Root root = {};
  std::unique_ptr<FixedPointLayer> layer;
  Tensor u;
  Conditions on = {};  // of forward, where a test passes them

  Built(const Context& context, const Case& entry, const Shape& shape = {kBatch, kTime, kWidth})
      : context(context), layer(entry.make(root, {context, rng})) {
    uint64_t stream = 500;
    for (const auto& [path, parameter] : layer->parameters()) {
      const Tensor noise = random(context, parameter->value.shape(), stream++, real(0.1));
      const bool input =
          path == "in_proj.weight" || path == "input_trans.weight" || path == "conv1d.weight";
      const bool norm = path == "out_norm.weight" || path == "norm.weight";
      const real scale = norm ? real(0.5) : input ? real(3) : real(1);
      parameter->value = add(affine(parameter->value, scale, 0), noise).value();
    }
    Rng inputs{.seed = 5, .stream = 0};
    u = normal(context, shape, 0, 1, inputs);
    set(Solver::sequential);
  }
  void set(Solver solver) {
    layer->solver = {.solver = solver, .tolerance = kSolveTolerance, .max_iterations = 200};
    layer->solver.gradient.kind = GradientRule::Kind::exact;
    layer->solver.unconverged = Unconverged::accept;
  }
};

// Of u and of every parameter, for a sequence that starts from `start`.
Values gradients_of(Built& built, const Var& u, const FixedPointState& start);

inline constexpr Solver kSolvers[] = {Solver::sequential, Solver::parallel};

// visit(layer, name) for each case, or for each case and solver.
template <class Visit>
void for_layers(const std::vector<Case>& cases, const Visit& visit) {
  const Context context = test_context();
  for (const Case& entry : cases) {
    Built built(context, entry);
    visit(built, entry.name);
  }
}
template <class Visit>
void for_solved_layers(const std::vector<Case>& cases, const Visit& visit) {
  for_layers(cases, [&](Built& built, const std::string& name) {
    for (const Solver solver : kSolvers) {
      built.set(solver);
      visit(built, fmt::format("{}, {}", name, name_of(solver)));
    }
  });
}

}  // namespace fprnn::tests
