#include <fprnn/tasks/report/curves.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace fprnn {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<Point> points_of(const RunResult& run, double StepMetrics::*value) {
  std::vector<Point> points;
  for (const StepMetrics& metrics : run.metrics) {
    const double y = metrics.*value;
    points.push_back({.x = static_cast<double>(metrics.step), .y = y, .low = y, .high = y});
  }
  return points;
}

bool finite(const Point& point) { return std::abs(point.y) <= kLargestShown; }

// The mean of a thirtieth of the points around each; a gap stays one.
std::vector<Point> smoothed(const std::vector<Point>& points) {
  const size_t reach = points.size() / 60;
  std::vector<Point> smooth;
  for (size_t i = 0; i < points.size(); ++i) {
    const size_t begin = i - std::min(i, reach), end = std::min(i + reach + 1, points.size());
    double sum = 0, count = 0;
    for (size_t k = begin; k < end; ++k) {
      if (!finite(points[k])) continue;
      sum += points[k].y;
      ++count;
    }
    smooth.push_back({.x = points[i].x, .y = finite(points[i]) ? sum / count : kNaN});
  }
  return smooth;
}

// From one extreme to the other of each few neighbours, as a line through all of them would look.
std::vector<Point> outline(const std::vector<Point>& points, size_t most) {
  if (points.size() <= most) return points;
  std::vector<Point> line;
  for (const Point& point : thinned(points, most / 2)) {
    line.push_back({.x = point.x, .y = point.low});
    line.push_back({.x = point.x, .y = point.high});
  }
  return line;
}

// After k answers; NaN where the run has no counts.
double exact_share(const RunResult& run, size_t k) {
  const std::vector<int64_t>& exact = run.evaluation.protocols.exact;
  if (exact.empty() || run.evaluation.lengths.empty()) return kNaN;
  const int64_t right = k <= exact.size() ? exact[k - 1] : 0,
                all = longest_of(run.evaluation).sequences;
  return right <= all ? static_cast<double>(right) / static_cast<double>(all) : kNaN;
}

// Of the longest sequences without an error after k answers the share, or its median; a run without
// counts has none.
std::vector<Point> exact_points(Runs runs) {
  std::vector<Point> points;
  int64_t longest = 0;
  size_t counted = 0;
  for (const RunResult& run : runs) {
    const std::vector<int64_t>& exact = run.evaluation.protocols.exact;
    if (exact.empty() || run.evaluation.lengths.empty()) continue;
    longest = std::max(longest, longest_of(run.evaluation).length);
    counted = std::max(counted, exact.size());
  }
  for (size_t k = 1; k <= counted; ++k) {
    std::vector<double> shares;
    for (const RunResult& run : runs) shares.push_back(exact_share(run, k));
    points.push_back({.x = static_cast<double>(k), .y = median(std::move(shares))});
  }
  // Where all have failed, to the end.
  if (!points.empty() && points.back().y == 0)
    points.push_back({.x = static_cast<double>(longest), .y = 0});
  return points;
}

}  // namespace

size_t Shown::most_points() const {
  size_t curves = runs.size();
  for (size_t i = 0; i < runs.size(); ++i) curves += seeds(i).size();
  return std::clamp<size_t>(2000 / curves, 60, 400);
}

std::vector<Curve> curves_by_length(const Shown& shown, bool iterated_only,
                                    const PointOf& point_of) {
  std::vector<Curve> curves;
  for (size_t i = 0; i < shown.runs.size(); ++i) {
    const RunResult& run = shown.runs[i];
    if (run.evaluation.lengths.empty() || (iterated_only && !has_iterations(run))) continue;
    const auto curve_of = [&](const RunResult& of, bool faint) {
      Curve curve{.points = {}, .style = i, .faint = faint};
      for (const LengthResult& result : results_by_length(of))
        curve.points.push_back(point_of(result));
      curve.points = thinned(curve.points, shown.most_points());
      curve.marks = !faint && curve.points.size() <= 24;
      return curve;
    };
    for (const RunResult& seed : shown.seeds(i)) curves.push_back(curve_of(seed, true));
    curves.push_back(curve_of(run, false));
  }
  return curves;
}

std::vector<Curve> exact_curves(const Shown& shown) {
  std::vector<Curve> curves;
  for (size_t i = 0; i < shown.runs.size(); ++i) {
    const auto add = [&](Runs runs, bool faint) {
      curves.push_back(
          {.points = thinned(exact_points(runs), shown.most_points()), .style = i, .faint = faint});
    };
    const Runs seeds = shown.seeds(i);
    for (size_t s = 0; s < seeds.size(); ++s) add(seeds.subspan(s, 1), true);
    add(seeds.empty() ? shown.runs.subspan(i, 1) : seeds, false);
  }
  return curves;
}

// A mean over thousands of steps would take long and look no different from one over hundreds.
std::vector<Curve> smooth_curves(const Shown& shown, bool iterated_only,
                                 double StepMetrics::*value) {
  constexpr size_t kSmoothed = 2000;
  const size_t most = shown.most_points();
  const auto smooth_of = [&](const RunResult& run) {
    return thinned(smoothed(thinned(points_of(run, value), kSmoothed)), most);
  };
  std::vector<Curve> faint, smooth;
  for (size_t i = 0; i < shown.runs.size(); ++i) {
    const RunResult& run = shown.runs[i];
    if (iterated_only && !has_iterations(run)) continue;
    for (const RunResult& seed : shown.seeds(i))
      faint.push_back({.points = smooth_of(seed), .style = i, .faint = true});
    if (shown.seeds(i).empty())
      faint.push_back({.points = outline(points_of(run, value), most), .style = i, .faint = true});
    smooth.push_back({.points = smooth_of(run), .style = i});
  }
  faint.insert(faint.end(), smooth.begin(), smooth.end());
  return faint;
}

std::vector<Curve> iteration_curves(const Shown& shown) {
  std::vector<Curve> curves;
  for (size_t i = 0; i < shown.runs.size(); ++i) {
    if (!has_iterations(shown.runs[i])) continue;
    const auto add = [&](const RunResult& run, bool faint) {
      std::vector<Point> points;
      for (const StepMetrics& m : run.metrics) points.push_back(iterations_at(m.step, m));
      curves.push_back(
          {.points = thinned(points, shown.most_points() / 2), .style = i, .faint = faint});
    };
    for (const RunResult& seed : shown.seeds(i)) add(seed, true);
    add(shown.runs[i], false);
  }
  return curves;
}

}  // namespace fprnn
