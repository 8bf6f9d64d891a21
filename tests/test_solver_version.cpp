// kSolverVersion: the solvers do what they did when it was last raised, and the figures of docs/
// are theirs.
#include <doctest/doctest.h>
#include <fprnn/core/build_info.h>
#include <fprnn/core/file.h>
#include <fprnn/tasks/report/report.h>
#include <fprnn/tasks/run/train.h>
#include <fprnn/tasks/word_problem.h>

#include <filesystem>
#include <utility>

#include "close.h"
#include "named_model.h"
#include "needs.h"

namespace fprnn::tests {

namespace {

struct Known {
  std::string solver, model, mixer, gradient;
  double iterations;  // the means of the steps, summed
  double loss;        // of the last
};

// A few steps of training as of solver version 2.
const Known kKnown[] = {
    {"sequential", "fp-mamba", "householder", "one-step", 369.125, 1.73337},
    {"sequential", "fp-mamba", "kronecker", "one-step", 132.062, 1.73147},
    {"sequential", "fp-mamba", "dplr", "exact", 348.062, 1.75111},
    {"sequential", "fp-rnn", "householder", "exact", 10, 1.77494},
    {"parallel", "fp-mamba", "householder", "one-step", 503.438, 1.73337},
    {"parallel", "fp-mamba", "kronecker", "one-step", 340.312, 1.73717},
    {"parallel", "fp-rnn", "dplr", "one-step", 88.875, 1.76915},
    {"patience", "fp-mamba", "dplr", "neumann:3", 98, 1.75594},
};

std::pair<double, double> iterations_and_loss(const Known& known) {
  const Context context = Context::cpu({.threads = 1, .isa = Isa::baseline});
  const WordProblem task(group_named("S3"));
  Rng rng = initial_stream(1);
  const auto model = named_model({{"model", known.model},
                                  {"d_model", "16"},
                                  {"d_state", "4"},
                                  {"mixer", known.mixer},
                                  {"rank", "2"},
                                  {"mixer_scale", "1"},
                                  {"solver", known.solver},
                                  {"gradient", known.gradient}},
                                 task.vocabulary(), {context, rng});
  Training training(
      *model, task, context,
      {.steps = 10, .batch_size = 16, .length = 8, .lr = 1e-2, .warmup = 1, .seed = 1});
  double iterations = 0;
  while (!training.finished()) iterations += training.step().iterations_mean;
  return {iterations, training.last().loss};
}

}  // namespace

// Rounding differs between compilers and C libraries and may cost a sequence an iteration; another rule of
// stopping, start or step costs more.
TEST_CASE("solver version: the solvers do what they did" * needs_float()) {
  for (const Known& known : kKnown) {
    const std::pair<double, double> now = iterations_and_loss(known);
    const double iterations = now.first, loss = now.second;
    INFO("now {\"", known.solver, "\", \"", known.model, "\", \"", known.mixer, "\", \"",
         known.gradient, "\", ", iterations, ", ", loss,
         "}: if that is right, raise kSolverVersion, write it here and draw the figures of docs/ "
         "anew");
    CHECK(iterations == doctest::Approx(known.iterations).epsilon(1e-2));
    CHECK(loss == doctest::Approx(known.loss).epsilon(5e-3));
  }
}

TEST_CASE("solver version: the figures of docs/ are of today's solvers") {
  const std::string version = "solver " + std::to_string(kSolverVersion) + "</desc>";
  CHECK(report_svg({}).find(version) != std::string::npos);
  int figures = 0;
  for (const auto& file : std::filesystem::directory_iterator(FPRNN_SOURCE_DIR "/docs")) {
    if (file.path().extension() != ".svg") continue;
    ++figures;
    CHECK_MESSAGE(
        read_file(file.path(), int64_t{1} << 24).find(version) != std::string::npos, file.path(),
        " was drawn with another solver version: docs/recipes.md and quickstart.sh say how");
  }
  CHECK(figures >= 2);
}

}  // namespace fprnn::tests
