// The exact gradient of the fixed-point layers: what it costs, where it does not converge, and central differences.
#include <doctest/doctest.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/reduce.h>

#include <cmath>

#include "close.h"
#include "fp_cases.h"
#include "needs.h"

namespace fprnn::tests {

// At a scale that the iteration of the adjoint feels.
TEST_CASE("fp layers: options that change after forward change no gradient") {
  const auto kronecker = with(kMamba, [](auto& o) { o.mixer = MixerKind::kronecker; });
  for_solved_layers({mamba_case("kronecker", kronecker), rnn_case("householder", kRnn)},
                    [](Built& built, const std::string& name) {
                      const Values expected = gradients_of(built, built.u, {});
                      Tape tape(built.context);
                      Vars asked{tape.variable(built.u)};
                      const Var out = built.layer->forward(asked[0]);
                      for (const auto& [path, parameter] : built.layer->parameters())
                        asked.push_back(tape.leaf(*parameter));
                      built.layer->solver.gradient = {};
                      built.layer->solver.gradient.max_iterations = 1;
                      built.layer->solver.gradient.tolerance = 1;
                      built.layer->solver.max_iterations = 1;
                      Values values;
                      for (const Tensor& gradient :
                           tape.vjp({out}, {random(built.context, out.shape(), 2)}, asked))
                        values.push_back(gradient.to_vector());
                      CHECK_MESSAGE(same_bits(values, expected), name);
                    });
}

// A single application of J^T is all that the adjoint may take: it misses its tolerance, the solution does not.
TEST_CASE("fp layers: an exact gradient that does not converge is counted and acted on") {
  for_layers(mamba_cases(), [](Built& built, const std::string& name) {
    INFO(name);
    const auto differentiated = [&] {
      Tape tape(built.context);
      const Var u = tape.variable(built.u);
      const Var out = built.layer->forward(u);
      CHECK(built.layer->adjoint_report().residual.empty());
      tape.vjp({out}, {random(built.context, out.shape(), 2)}, {u});
      return built.layer->adjoint_report();
    };
    for (const Solver solver : kSolvers) {
      built.set(solver);
      const FixedPointReport report = differentiated();
      CHECK(report.residual.size() == kBatch);
      CHECK_MESSAGE(report.unconverged() == 0, report.max_residual());
      CHECK(report.max_iterations() >= 1);
    }
    built.layer->solver.gradient.max_iterations = 1;
    const FixedPointReport missed = differentiated();
    CHECK(missed.unconverged() == kBatch);
    CHECK(missed.max_iterations() == 1);
    CHECK(built.layer->report().unconverged() == 0);
    built.layer->solver.unconverged = Unconverged::fail;
    CHECK_THROWS_AS(differentiated(), ConvergenceError);
    built.layer->solver.gradient.kind = GradientRule::Kind::one_step;
    CHECK(differentiated().residual.empty());
  });
}

// Bytes handed out, not seconds: a sweep that copied all cotangents at every step gave out four
// times as many a step at the greater length.
TEST_CASE("fp layers: a step of the exact gradient costs the same however long the sequence") {
  const Context context = test_context();
  const auto bytes_a_step = [&](int64_t T) {
    Rng rng;
    Module root;
    FpMamba layer(root, "layer", {context, rng}, {.d_model = 4, .d_state = 2, .scale = 1});
    layer.solver.gradient.kind = GradientRule::Kind::exact;
    Tape tape(context);
    const Var u = tape.variable(uniform(context, {2, T, 4}, -1, 1, rng)), y = layer.forward(u);
    const int64_t before = context.memory().statistics().allocated_bytes;
    tape.vjp({y}, {full(context, y.shape(), 1)}, {u});
    return (context.memory().statistics().allocated_bytes - before) / T;
  };
  CHECK(2 * bytes_a_step(1024) < 3 * bytes_a_step(128));
}

namespace {

constexpr double kDifferences = 1e-7;
constexpr int64_t kCut = 3;

// <seed, layer(u)> from a state, u and the parameters moved by `distance` along signs drawn for
// each element.
class Landscape {
 public:
  Landscape(Built& built, const Var& u, const FixedPointState& start)
      : built_(built), start_(start), places_{clone(u.value())} {
    for (const auto& [path, parameter] : built.layer->parameters())
      places_.push_back(parameter->value);
    for (const Tensor& place : places_) origins_.push_back(clone(place));
  }
  static double sign(size_t place, int64_t element) {
    return Rng{17, place}.bits(element) % 2 == 0 ? 1 : -1;
  }
  double at(double distance, const std::vector<size_t>& chosen) {
    for (const size_t i : chosen) {
      std::vector<real> moved = origins_[i].to_vector();
      for (size_t k = 0; k < moved.size(); ++k)
        moved[k] += static_cast<real>(distance * sign(i, static_cast<int64_t>(k)));
      assign(places_[i], moved);
    }
    FixedPointState state = start_;
    const Var y = built_.layer->forward(places_[0], state);
    for (const size_t i : chosen) copy(origins_[i], places_[i]);
    return sum(mul(y, random(built_.context, y.shape(), 2))).value().to_vector().front();
  }

 private:
  Built& built_;
  FixedPointState start_;
  std::vector<Tensor> places_, origins_;  // u, then the parameters
};

void check_differences(Built& built, const Var& u, const FixedPointState& start,
                       const std::string& name) {
  const Values gradients = gradients_of(built, u, start);
  Landscape land(built, u, start);
  std::vector<std::vector<size_t>> choices(1);
  for (size_t i = 0; i < gradients.size(); ++i) {
    choices.push_back({i});
    choices[0].push_back(i);
  }
  constexpr double h = 0x1p-13;
  for (const std::vector<size_t>& chosen : choices) {
    double along = 0, squares = 0;
    for (const size_t i : chosen) {
      squares += std::pow(length(gradients[i]), 2);
      for (size_t k = 0; k < gradients[i].size(); ++k)
        along += gradients[i][k] * Landscape::sign(i, static_cast<int64_t>(k));
    }
    const auto f = [&](double distance) { return land.at(distance, chosen); };
    const double difference = (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h);
    CHECK(squares > 0);
    CHECK_MESSAGE(std::abs(along - difference) <= kDifferences * std::sqrt(squares),
                  name << ", from place " << chosen[0] << ": " << along << " instead of "
                       << difference << ", length " << std::sqrt(squares));
  }
}

}  // namespace

TEST_CASE("fp layers: the exact gradient is that of central differences of the whole solve" *
          needs_double()) {
  const auto mamba = with(kMamba, [](auto& o) { o.dependence.lambda = true; });
  const auto kronecker = with(kMamba, [](auto& o) { o.mixer = MixerKind::kronecker; });
  for_solved_layers({mamba_case("every dependence", mamba), mamba_case("kronecker", kronecker),
                     rnn_case("householder", kRnn)},
                    [](Built& built, const std::string& name) {
                      FixedPointState carried;
                      check_differences(built, built.u, carried, name);
                      built.layer->forward(slice(built.u, 1, 0, kCut), carried);
                      check_differences(built, slice(built.u, 1, kCut, kTime), carried,
                                        name + ", second chunk");
                    });
}

}  // namespace fprnn::tests
