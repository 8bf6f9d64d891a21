#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/run/child.h>
#include <fprnn/tasks/run/command_line.h>
#include <fprnn/tasks/run/compare.h>
#include <fprnn/tasks/run/interrupt.h>
#include <fprnn/tasks/run/output.h>
#include <fprnn/tasks/run/seeds.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <thread>

namespace fprnn {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostSeeds = 1000;

// What this process has, but for settings: the configuration has them all. Threads are shared out
// by OpenMP's own variable, so that the configuration stays that of a run alone.
std::vector<std::string> environment_of_each(int threads) {
  constexpr std::string_view kLimit = "OMP_THREAD_LIMIT=";
  std::vector<std::string> variables = {fmt::format("{}{}", kLimit, threads)};
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (!text.starts_with(kVariablePrefix) && !text.starts_with(kLimit))
      variables.emplace_back(text);
  }
  return variables;
}

bool has_ended(const std::string& folder, int64_t steps) {
  try {
    return read_run(folder).evaluation.steps >= steps;
  } catch (const Error&) {
    return false;
  }
}

std::vector<uint64_t> unfinished(const SeedRuns& runs) {
  std::vector<uint64_t> seeds = seeds_in(runs.folder);
  std::erase_if(
      seeds, [&](uint64_t seed) { return has_ended(seed_folder(runs.folder, seed), runs.steps); });
  return seeds;
}

std::string last_line(const std::string& path) {
  std::string last;
  try {
    for_each_line(path, 1 << 20, [&](std::string_view line) {
      if (!line.empty()) last = line;
    });
  } catch (const Error&) {
  }
  return shortened(printable(last), 300);
}

// Processes of some seeds, as many at once as there may be.
class Jobs {
 public:
  Jobs(const SeedRuns& runs, std::vector<uint64_t> seeds) : runs_(runs), seeds_(std::move(seeds)) {
    const auto most = std::max<int64_t>(std::min<int64_t>(runs.jobs, std::ssize(seeds_)), 1);
    environment_ = environment_of_each(std::max(runs.threads / static_cast<int>(most), 1));
  }

  // The exit code of each.
  std::map<uint64_t, int> run() {
    const HeldInterrupts held;
    bool stopping = false;
    while (!running_.empty() || (!stopping && next_ < seeds_.size())) {
      if (interrupted() && !std::exchange(stopping, true))
        for (const auto& [seed, child] : running_) child.interrupt();
      while (!stopping && next_ < seeds_.size() && std::ssize(running_) < runs_.jobs) start();
      collect();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (interrupted()) throw Interrupted();
    return codes_;
  }

 private:
  std::string log_of(uint64_t seed) const { return seed_folder(runs_.folder, seed) + ".log"; }

  void start() {
    const uint64_t seed = seeds_[next_++];
    std::vector<std::string> arguments = {"--resume", seed_folder(runs_.folder, seed)};
    arguments.insert(arguments.end(), runs_.flags.begin(), runs_.flags.end());
    running_.emplace(seed, Child(arguments, environment_, log_of(seed)));
  }

  void collect() {
    for (auto at = running_.begin(); at != running_.end();) {
      const auto& [seed, child] = *at;
      const std::optional<int> code = at->second.ended();
      if (!code) {
        ++at;
        continue;
      }
      codes_[seed] = *code;
      const std::string how =
          *code == 0 ? "done" : fmt::format("exit code {}, {}", *code, last_line(log_of(seed)));
      print(fmt::format("seed {}: {} ({} of {})\n", seed, how, codes_.size(), seeds_.size()));
      at = running_.erase(at);
    }
  }

  const SeedRuns& runs_;
  const std::vector<uint64_t> seeds_;
  std::vector<std::string> environment_;
  std::map<uint64_t, Child> running_;
  std::map<uint64_t, int> codes_;
  size_t next_ = 0;
};

// Without the results of runs that broke off: they are of an evaluation on the way.
RunGroup results(const SeedRuns& runs, const std::map<uint64_t, int>& codes) {
  RunGroup group = read_seeds(runs.folder);
  std::erase_if(group.runs, [&](const RunResult& run) {
    const uint64_t seed = run.evaluation.origin.seed;
    const auto code = codes.find(seed);
    const bool failed =
        code != codes.end() && code->second != 0 && run.evaluation.steps < runs.steps;
    if (failed) group.failed.push_back(seed);
    return failed;
  });
  std::ranges::sort(group.failed);
  return group;
}

}  // namespace

std::vector<uint64_t> seeds_named(std::string_view text) {
  std::set<uint64_t> seeds;
  for (const std::string& part : split(text, ',')) {
    const std::vector<std::string> ends = split(part, '-');
    const auto first = number_in<uint64_t>(ends.front()), last = number_in<uint64_t>(ends.back());
    require<ValueError>(ends.size() <= 2 && first && last && *first <= *last, "seeds",
                        "must be seeds and ranges of them, such as 0-7 or 0,2,5-6", text);
    require<ValueError>(*last - *first < kMostSeeds && seeds.size() < kMostSeeds, "seeds",
                        "there must be at most 1000", text);
    for (uint64_t i = 0; i <= *last - *first; ++i)
      require<ValueError>(seeds.insert(*first + i).second, "seeds", "each must be named once", text,
                          *first + i);
  }
  require<ValueError>(seeds.size() <= kMostSeeds, "seeds", "there must be at most 1000", text);
  return {seeds.begin(), seeds.end()};
}

void make_seeds(const std::string& folder, std::span<const uint64_t> seeds,
                const std::function<std::string(uint64_t seed)>& config_of) {
  const char* tag = "run directory";
  std::error_code error;
  require<UsageError>(seeds_in(folder).empty(), tag,
                      "there are seeds in it: go on with --resume, or name another --out", folder);
  require<UsageError>(!fs::exists(folder, error) || fs::is_empty(folder, error), tag,
                      "seeds need a new or an empty folder: name another --out", folder);
  const fs::path above = fs::path(folder).parent_path();
  if (!above.empty()) fs::create_directories(above, error);
  replace_folder(folder, [&](const std::string& fresh) {
    for (const uint64_t seed : seeds) {
      fs::create_directory(seed_folder(fresh, seed));
      OutputFile config(seed_folder(fresh, seed) + "/config.json");
      config.write(config_of(seed));
      config.finish();
    }
  });
}

void run_seeds(const SeedRuns& runs) {
  const RunDirectory folder(runs.folder);
  const std::vector<uint64_t> seeds = unfinished(runs);
  print(fmt::format("{} seeds to run, {} at once, writing {}\n", seeds.size(), runs.jobs,
                    runs.folder));
  const std::map<uint64_t, int> codes = Jobs(runs, seeds).run();
  const RunGroup group = results(runs, codes);
  print_report(RunGroups(&group, 1));
  write_groups(folder, {&group, 1});
  require<Error>(group.failed.empty(), "seeds",
                 "every seed must come to its end: folder and those that failed", runs.folder,
                 fmt::format("{}", fmt::join(group.failed, ", ")));
  for (const RunResult& run : group.runs)
    if (run.evaluation.steps >= runs.steps) check_goals(runs.goals, run.evaluation);
}

}  // namespace fprnn
