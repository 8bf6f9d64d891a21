// Runs as a training would leave them.
#pragma once

#include <fprnn/tasks/report/record.h>

#include <limits>

namespace fprnn::tests {

// Evaluated at lengths 16, 32, 64 ... with these accuracies; with fixed points or without.
inline RunResult sample_run(const std::string& name, const std::vector<double>& accuracies,
                            bool iterated, int64_t steps = 0) {
  RunResult run{.name = name,
                .evaluation = {.task = "state_tracking",
                               .settings = {{"group", "S3"}},
                               .model = iterated ? "fp-mamba" : "mamba",
                               .parameters = 12345,
                               .device = "cpu",
                               .solver = iterated ? "sequential" : "",
                               .gradient = iterated ? "one-step" : "",
                               .train_length = 16,
                               .steps = steps,
                               .train_seconds = 61.5,
                               .caption = "whole sequences right"}};
  for (int64_t length = 16; const double accuracy : accuracies) {
    LengthResult result{.length = length,
                        .sequences = 100,
                        .metrics = {{"whole_sequences", accuracy},
                                    {"tokens", 0.5 + accuracy / 2},
                                    {"last_token", accuracy}},
                        .wilson = wilson_interval(accuracy, 100)};
    if (iterated) {
      result.iterations_mean = 20.25;
      result.iterations_max = length;
      result.residual_max = 9e-5;
      result.unconverged = length / 64;
    }
    run.evaluation.lengths.push_back(result);
    length *= 2;
  }
  for (int64_t step = 1; step <= steps; ++step) {
    StepMetrics metrics{.step = step, .loss = 2.0 / static_cast<double>(step)};
    if (step % 7 == 0) metrics.loss = std::numeric_limits<double>::quiet_NaN();
    if (iterated) {
      metrics.iterations_mean = 10 + static_cast<double>(step % 3);
      metrics.iterations_max = 20 + step % 5;
      metrics.residual_max = 1e-4 / static_cast<double>(1 + step % 4);
    }
    run.metrics.push_back(metrics);
  }
  return run;
}

}  // namespace fprnn::tests
