// What a preset promises of its runs: it holds for the preset as it is, with any seed, on any device.
#pragma once

#include <fprnn/core/settings.h>
#include <fprnn/tasks/report/record.h>

namespace fprnn {

// A preset's, which is named. None where a setting that decides what is learnt, or one of the
// task's own, which are the first `own`, has another value than by the preset, the seed aside.
struct Goals {
  std::string preset = {};
  std::vector<Goal> goals = {};
};
Goals goals_of(const std::vector<Preset>& presets, const std::string& preset,
               const Settings& settings, size_t own);

// Of the goals at lengths that were evaluated. Error: one is missed.
void check_goals(const Goals& goals, const Evaluation& evaluation);

}  // namespace fprnn
