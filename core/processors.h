// The default number of threads of a Context: that of the processors which this process may use.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace fprnn {

// OMP_NUM_THREADS if it is set (the first number of a list), otherwise the smaller of the
// processors that the process may run on, by its affinity, and those that its control groups
// (cgroups) grant, rounded up. 1 to 1024.
int default_threads();

// As many as are wanted, 0 for the default, but not more than OMP_THREAD_LIMIT if that is set.
int threads_within_limit(int wanted);

// Its parts, as functions of the texts that they read.
std::optional<int> threads_wanted(std::string_view omp_num_threads);
// How many processors, such as 1.5, control groups grant: the smallest quota of the group that
// `cgroup` (/proc/self/cgroup) names and of the groups above it that are mounted here
// (/proc/self/mountinfo). Quotas are cpu.max in version 2, cpu.cfs_quota_us and cpu.cfs_period_us
// in version 1. read returns the content of a file, or nothing if there is none.
using ReadFile = std::function<std::optional<std::string>(const std::string& path)>;
std::optional<double> granted_processors(std::string_view cgroup, std::string_view mountinfo,
                                         const ReadFile& read);
int threads_for(int processors, std::optional<double> granted);

}  // namespace fprnn
