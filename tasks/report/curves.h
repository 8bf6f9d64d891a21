// The curves of report.svg: of runs, or of medians with their seeds faintly behind them, against the
// length or the training step, thinned to what can be seen.
#pragma once

#include <fprnn/tasks/report/plot.h>
#include <fprnn/tasks/report/run_groups.h>

#include <functional>

namespace fprnn {

// The runs that are shown, and of one that stands for several seeds these.
struct Shown {
  Runs runs;
  RunGroups groups = {};  // empty: each run is itself

  // The seeds that a run stands for; none where it stands for itself.
  Runs seeds(size_t run) const {
    const bool several = run < groups.size() && groups[run].seeds() > 1;
    return several ? Runs(groups[run].runs) : Runs();
  }
  // Points that a curve has at most, so that many runs do not make a large file.
  size_t most_points() const;
};

// The mean, and from there to the slowest sequence.
template <class Result>  // of a length or a step
Point iterations_at(int64_t x, const Result& result) {
  return {.x = static_cast<double>(x),
          .y = result.iterations_mean,
          .low = result.iterations_mean,
          .high = static_cast<double>(result.iterations_max)};
}

// A curve for each run that was evaluated; of those with fixed points alone, where that is asked.
using PointOf = std::function<Point(const LengthResult& result)>;
std::vector<Curve> curves_by_length(const Shown& shown, bool iterated_only,
                                    const PointOf& point_of);

// Of each run that has it, the share of its longest sequences without an error up to each place; the
// median of the seeds' where it stands for several.
std::vector<Curve> exact_curves(const Shown& shown);

// A smooth curve over what was logged, or over the smooth ones of all seeds.
std::vector<Curve> smooth_curves(const Shown& shown, bool iterated_only,
                                 double StepMetrics::*value);
std::vector<Curve> iteration_curves(const Shown& shown);

}  // namespace fprnn
