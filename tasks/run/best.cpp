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

std::optional<Best> logged_best(const RunDirectory& run) {
  std::optional<Best> best;
  const std::string metrics = run.file("metrics.jsonl");
  if (fs::exists(metrics))
    for_each_step(metrics,
                  [&](const StepMetrics& step, const std::string&) { improve(best, step); });
  return best;
}

}  // namespace fprnn
