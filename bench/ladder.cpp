// The rungs of cuda/ladder, one after the other. Of builds with CUDA alone.
#include "bench.h"

#include <fprnn/cuda/ladder/ladder.h>
#include <fprnn/cuda/ladder/solve_case.h>

#include <algorithm>

namespace fprnn::bench {

namespace {

using ladder::ScanRung;
using ladder::SolveCase;
using ladder::SolveRung;

// The scan of bench scan's shorter size, against a copy of as many bytes.
std::vector<Result> scan_ladder(const Context& context, const Options& options) {
  const ScanCase at(context, {8, 2048, 1536});
  std::vector<Work> works;
  const auto rungs = ladder::scan_rungs();
  const Cuda cuda{context};
  for (const ScanRung& rung : rungs) {
    works.push_back([=, &at] { rung.forward(cuda, at.forward); });
    works.push_back([=, &at] { rung.backward(cuda, at.backward); });
  }
  const auto times = medians_and_copies(context, options, works, {at.bytes[0], at.bytes[1]});
  std::vector<Result> results;
  for (size_t i = 0; i < works.size(); ++i)
    results.push_back({.name = i % 2 == 0 ? "ladder-scan-forward" : "ladder-scan-backward",
                       .parameters = {{"rung", rungs[i / 2].name}},
                       .milliseconds = times[i].milliseconds,
                       .gigabytes_per_second = at.bytes[i % 2] / times[i].milliseconds / 1e6,
                       .runs = options.runs,
                       .limit_milliseconds = times[works.size() + i % 2].milliseconds,
                       .how = times[i].how});
  return results;
}

// The sweep of a layer with d_model 128 over 512 sequences of 17 tokens.
std::vector<Result> solve_ladder(const Context& context, const Options& options) {
  const Cuda cuda{context};
  std::vector<Result> results;
  for (const SolveRung& rung : ladder::solve_rungs()) {
    const SolveCase at(context, {});
    const Timing time = medians(context, options, {[&] { rung.solve(cuda, at.sweep); }}).front();
    const auto iterations = at.iterations.to_vector();
    results.push_back(
        {.name = "ladder-solve",
         .parameters = {{"rung", rung.name},
                        {"iterations_max", std::to_string(std::ranges::max(iterations))}},
         .milliseconds = time.milliseconds,
         .tokens_per_second =
             static_cast<double>(at.sweep.B * at.sweep.T) / time.milliseconds * 1e3,
         .runs = options.runs,
         .how = time.how});
  }
  return results;
}

}  // namespace

std::vector<Result> gpu_ladder(const Context& context, const Options& options) {
  std::vector<Result> results = scan_ladder(context, options);
  std::ranges::move(solve_ladder(context, options), std::back_inserter(results));
  return results;
}

}  // namespace fprnn::bench
