// How many threads a Context has that was not told: as many as the processors that this process may use.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace fprnn {

// OMP_NUM_THREADS if it is set (the first number of a list), otherwise the smaller of the processors that the
// process may run on, by its affinity, and those that its control groups (cgroups) grant, rounded
// up. 1 to 1024.
int default_threads();

// What it is made of, as functions of given texts.
std::optional<int> threads_wanted(std::string_view omp_num_threads);
// Processors, 1.5 being one and a half, by the quota of the group that `cgroup` (/proc/self/cgroup) names and
// of all those above it that are mounted here (/proc/self/mountinfo): the smallest. cpu.max of
// version 2, cpu.cfs_quota_us and cpu.cfs_period_us of version 1. read gives the content of a file,
// if there is one.
using ReadFile = std::function<std::optional<std::string>(const std::string& path)>;
std::optional<double> granted_processors(std::string_view cgroup, std::string_view mountinfo,
                                         const ReadFile& read);
int threads_for(int processors, std::optional<double> granted);

}  // namespace fprnn
