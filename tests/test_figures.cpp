// What records make of figures: the interval of a share, and few steps of many.
#include <doctest/doctest.h>
#include <fprnn/tasks/report/record.h>

#include <cmath>
#include <tuple>

#include "folder.h"
#include "sample_run.h"

namespace fprnn::tests {

TEST_CASE("record: the interval of a share, where there is one") {
  // Newcombe (1998), table I, method 3; the last by symmetry.
  const std::tuple<double, double, double, double> known[] = {{81, 263, 0.2553, 0.3662},
                                                              {15, 148, 0.0624, 0.1605},
                                                              {0, 20, 0.0000, 0.1611},
                                                              {1, 29, 0.0061, 0.1718},
                                                              {29, 29, 0.8830, 1.0000}};
  for (const auto& [right, trials, low, high] : known) {
    const Interval interval = wilson_interval(right / trials, trials);
    CHECK(std::abs(interval.low.value() - low) < 5e-5);
    CHECK(std::abs(interval.high.value() - high) < 5e-5);
  }
  // Its ends p are those whose share is 1.96 standard errors away.
  for (const double share : {0.03, 0.5, 0.91})
    for (const double trials : {1.0, 16.0, 2048.0}) {
      const Interval interval = wilson_interval(share, trials);
      for (const double end : {interval.low.value(), interval.high.value()})
        CHECK(std::abs(std::abs(share - end) / std::sqrt(end * (1 - end) / trials) - 1.959964) <
              1e-5);
    }
  for (const auto& [share, trials] :
       {std::pair{1.0, 0.0}, {std::nan(""), 10.0}, {2.0, 10.0}, {-0.1, 10.0}, {0.5, HUGE_VAL}})
    CHECK(wilson_interval(share, trials) == Interval());
}

TEST_CASE("record: of very many steps some are kept, with the largest since the one before") {
  const Folder folder;
  const int64_t steps = 2 * kMostSteps + 7;
  write_file(folder.file("eval.json"), to_json(Evaluation()));
  std::string lines;
  for (int64_t step = 1; step <= steps; ++step) {
    StepMetrics metrics{.step = step, .loss = static_cast<double>(step)};
    if (step == 1001) metrics.residual_max = 0.5;
    if (step == 1002) metrics.iterations_max = 77;
    if (step == 2001) metrics.residual_max = std::nan("");
    if (step == 3001) metrics.adjoint_iterations_max = 9;
    if (step == 3002) metrics.adjoint_residual_max = 0.25;
    if (step == 3003) metrics.adjoint_unconverged = metrics.unconverged = 3;
    lines += to_json(metrics) + "\n";
  }
  write_file(folder.file("metrics.jsonl"), lines);
  const std::vector<StepMetrics> kept = read_run(folder.path()).metrics;
  REQUIRE(kept.size() == kMostSteps / 2 + 2);  // one of four
  for (size_t i = 0; i + 1 < kept.size(); ++i)
    CHECK(kept[i].step == 4 * (static_cast<int64_t>(i) + 1));
  CHECK(kept.back().step == steps);
  CHECK(kept[250].residual_max == 0.5);
  CHECK(kept[250].iterations_max == 77);
  CHECK(kept[250].loss == 1004);
  CHECK(std::isnan(kept[500].residual_max));
  CHECK(kept[501].residual_max == 0);
  CHECK(kept[750].adjoint_iterations_max == 9);
  CHECK(kept[750].adjoint_residual_max == 0.25);
  CHECK(kept[750].adjoint_unconverged == 3);
  CHECK(kept[750].unconverged == 3);
}

}  // namespace fprnn::tests
