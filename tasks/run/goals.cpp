#include <fprnn/core/check.h>
#include <fprnn/tasks/run/goals.h>

#include <algorithm>

namespace fprnn {

Goals goals_of(const std::vector<Preset>& presets, const std::string& preset,
               const Settings& settings, size_t own) {
  const auto found = std::ranges::find(presets, preset, &Preset::name);
  if (found == presets.end()) return {};
  for (size_t i = 0; i < settings.all().size(); ++i) {
    const Setting& setting = settings.all()[i];
    const bool decides = i < own || (setting.decides < Decides::run && setting.key != "seed");
    if (decides && setting.is_in_use() && !setting.is_standard()) return {};
  }
  return {preset, found->goals};
}

void check_goals(const Goals& goals, const Evaluation& evaluation) {
  for (const Goal& goal : goals.goals)
    for (const LengthResult& result : evaluation.lengths) {
      if (result.length != goal.length) continue;
      const double value = result.metric(goal.metric);
      const bool reached = goal.bound == Goal::Bound::least ? value >= goal.value  // no NaN
                                                            : value <= goal.value;
      require<Error>(reached, "preset",
                     "a run of it must reach its goal: preset, seed, metric, length, value and " +
                         std::string(name_of(goal.bound)),
                     goals.preset, evaluation.origin.seed, goal.metric, goal.length, value,
                     goal.value);
    }
}

}  // namespace fprnn
