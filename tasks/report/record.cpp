#include <fmt/format.h>
#include <fprnn/core/file.h>
#include <fprnn/tasks/report/record.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

namespace fprnn {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxFile = 64'000'000;  // bytes
constexpr int64_t kLongestLine = 1 << 16;
static_assert(kMostSteps % 2 == 0);

StepMetrics joined(const StepMetrics& earlier, StepMetrics later) {
  later.iterations_max = std::max(later.iterations_max, earlier.iterations_max);
  later.residual_max = larger_or_nan(earlier.residual_max, later.residual_max);
  later.unconverged = std::max(later.unconverged, earlier.unconverged);
  later.adjoint_iterations_max =
      std::max(later.adjoint_iterations_max, earlier.adjoint_iterations_max);
  later.adjoint_residual_max =
      larger_or_nan(earlier.adjoint_residual_max, later.adjoint_residual_max);
  later.adjoint_unconverged = std::max(later.adjoint_unconverged, earlier.adjoint_unconverged);
  return later;
}

// One step for each `distance` of them, which doubles when there are too many.
class ThinnedSteps {
 public:
  void add(const StepMetrics& step) {
    if (in_last_ > 0) {
      steps_.back() = joined(steps_.back(), step);
    } else {
      if (steps_.size() == kMostSteps) halve();
      steps_.push_back(step);
    }
    in_last_ = (in_last_ + 1) % distance_;
  }
  std::vector<StepMetrics> take() { return std::move(steps_); }

 private:
  void halve() {
    for (size_t i = 0; i < kMostSteps / 2; ++i)
      steps_[i] = joined(steps_[2 * i], steps_[2 * i + 1]);
    steps_.resize(kMostSteps / 2);
    distance_ *= 2;
  }

  std::vector<StepMetrics> steps_;
  int64_t distance_ = 1, in_last_ = 0;  // steps that one stands for, and that the last does so far
};

// Without the line of the seed.
std::string seedless(const std::string& path) {
  std::string lines;
  for_each_line(path, kLongestLine, [&](std::string_view line) {
    if (line.substr(std::min(line.find_first_not_of(' '), line.size())).starts_with("\"seed\":"))
      return;
    lines.append(line).append("\n");
  });
  return lines;
}

}  // namespace

Interval wilson_interval(double share, double trials) {
  if (!(share >= 0 && share <= 1 && trials > 0 && std::isfinite(trials))) return {};
  constexpr double kZ = 1.959963984540054;
  const double more = kZ * kZ / trials;
  const double middle = (share + more / 2) / (1 + more);
  const double reach = kZ / (1 + more) * std::sqrt((share * (1 - share) + more / 4) / trials);
  return {share > 0 ? middle - reach : 0, share < 1 ? middle + reach : 1};  // without rounding
}

double LengthResult::metric(std::string_view name) const {
  const auto found = std::ranges::find(metrics, name, &NamedValues::value_type::first);
  return found == metrics.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

void for_each_step(
    const std::string& path,
    const std::function<void(const StepMetrics& step, const std::string& line)>& take) {
  int64_t number = 0;
  for_each_line(path, kLongestLine, [&](std::string_view text) {
    const std::string line(text);
    take(step_metrics_from_json(line, fmt::format("{}:{}", path, ++number)), line);
  });
}

std::string name_of_run(const std::string& folder) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(folder, ignored).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename();
}

RunResult read_run(const std::string& folder) {
  const fs::path path(folder), metrics = path / "metrics.jsonl", evaluation = path / "eval.json",
                               config = path / "config.json";
  std::error_code ignored;
  const auto has = [&](const fs::path& file) {
    return fs::exists(fs::symlink_status(file, ignored));
  };
  RunResult run{
      .name = name_of_run(folder),
      .evaluation = evaluation_from_json(read_file(evaluation, kMaxFile), evaluation.string())};
  ThinnedSteps steps;
  if (has(config)) run.configuration = seedless(config);
  if (has(metrics))
    for_each_step(metrics, [&](const StepMetrics& step, const std::string&) { steps.add(step); });
  run.metrics = steps.take();
  return run;
}

}  // namespace fprnn
