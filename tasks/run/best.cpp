#include <fprnn/tasks/run/best.h>

#include <cmath>
#include <filesystem>

namespace fprnn {

namespace fs = std::filesystem;

std::string best_checkpoint(const std::string& run) { return run + "/best"; }

bool has_best(const std::string& run) {
  std::error_code ignored;
  return fs::exists(best_checkpoint(run) + "/state.json", ignored);
}

bool improve(std::optional<Best>& best, const StepMetrics& metrics) {
  const double loss = metrics.validation_loss.value_or(INFINITY);
  if (!std::isfinite(loss) || (best && loss >= best->validation_loss)) return false;
  best = {metrics.step, loss};
  return true;
}

std::optional<Best> logged_best(const std::string& run, int64_t last) {
  std::optional<Best> best;
  const std::string metrics = run + "/metrics.jsonl";
  if (fs::exists(metrics))
    for_each_step(metrics, [&](const StepMetrics& step, const std::string&) {
      if (step.step <= last) improve(best, step);
    });
  return best;
}

NamedValues kept(const Best& best) {
  return {{"step", static_cast<double>(best.step)}, {"validation_loss", best.validation_loss}};
}

}  // namespace fprnn
