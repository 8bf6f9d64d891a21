// Runs that differ by their seed alone, made by one command: FOLDER/seed_<n>, each as it would be
// alone, by a process of its own, which says what it says in FOLDER/seed_<n>.log; then report.svg,
// summary.csv and summary.json of all.
#pragma once

#include <fprnn/tasks/run/goals.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fprnn {

// "0-7", "3" or "0-3,8,10-11", ascending. ValueError: another text, a seed named twice, or more than
// 1000.
std::vector<uint64_t> seeds_named(std::string_view text);

// A new folder with the configuration of each seed, which appears whole or not at all. UsageError:
// there is anything in it.
void make_seeds(const std::string& folder, std::span<const uint64_t> seeds,
                const std::function<std::string(uint64_t seed)>& config_of);

// What one command runs.
struct SeedRuns {
  std::string folder;  // that make_seeds made
  int64_t jobs = 1;    // at most so many at once
  int threads = 1;     // of all of them together, one each at least
  int64_t steps = 0;   // that a run takes
  Goals goals = {};
  std::vector<std::string> flags = {};  // said to each besides its folder
};
// Runs those that have not ended, and reports all. Error, once all have ended: some failed, or missed
// a goal.
// Interrupted, once each has saved what it had.
void run_seeds(const SeedRuns& runs);

}  // namespace fprnn
