// The default number of threads, by texts as Linux writes them.
#include <doctest/doctest.h>
#include <fprnn/core/context.h>
#include <fprnn/core/processors.h>

#include <map>

using namespace fprnn;

namespace {

using Files = std::map<std::string, std::string>;

std::optional<double> granted(const std::string& cgroup, const std::string& mountinfo,
                              const Files& files) {
  return granted_processors(cgroup, mountinfo,
                            [&](const std::string& path) -> std::optional<std::string> {
                              const auto found = files.find(path);
                              if (found == files.end()) return std::nullopt;
                              return found->second;
                            });
}

const std::string kVersion2 =
    "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const std::string kVersion1 =
    "30 24 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "33 30 0:30 / /sys/fs/cgroup/cpuset rw shared:14 - cgroup cgroup rw,cpuset\n"
    "34 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 master:2 - cgroup cgroup "
    "rw,cpu,cpuacct\n";

}  // namespace

TEST_CASE("processors: quotas of control groups of version 2, the smallest on the way up") {
  const std::string group = "0::/user.slice/job.scope\n";
  const std::string folder = "/sys/fs/cgroup/user.slice";
  CHECK(granted(group, kVersion2, {}) == std::nullopt);
  CHECK(granted(group, kVersion2, {{folder + "/job.scope/cpu.max", "max 100000\n"}}) ==
        std::nullopt);
  CHECK(granted(group, kVersion2, {{folder + "/job.scope/cpu.max", "150000 100000\n"}}) == 1.5);
  CHECK(granted(group, kVersion2,
                {{folder + "/job.scope/cpu.max", "400000 100000\n"},
                 {folder + "/cpu.max", "100000 50000\n"}}) == 2);
  CHECK(granted(group, kVersion2,
                {{folder + "/job.scope/cpu.max", "100000 100000\n"},
                 {folder + "/cpu.max", "300000 100000\n"}}) == 1);
  CHECK(granted("0::/\n", kVersion2, {{"/sys/fs/cgroup/cpu.max", "50000 100000\n"}}) == .5);
  CHECK(granted(group, kVersion2, {{"/sys/fs/cgroup/cpu.max", "300000\n"}}) ==
        3);  // the period's default
}

TEST_CASE("processors: quotas of control groups of version 1, and of both versions") {
  const std::string group = "5:cpuset:/other\n4:cpu,cpuacct:/docker/c0ffee\n0::/docker/c0ffee\n";
  const std::string folder = "/sys/fs/cgroup/cpu,cpuacct/docker";
  const auto files = [&](const char* own, const char* parent) {
    return Files{{folder + "/c0ffee/cpu.cfs_quota_us", own},
                 {folder + "/c0ffee/cpu.cfs_period_us", "100000\n"},
                 {folder + "/cpu.cfs_quota_us", parent},
                 {folder + "/cpu.cfs_period_us", "50000\n"}};
  };
  CHECK(granted(group, kVersion1, files("-1\n", "-1\n")) == std::nullopt);
  CHECK(granted(group, kVersion1, files("200000\n", "-1\n")) == 2);
  CHECK(granted(group, kVersion1, files("200000\n", "50000\n")) == 1);
  // A container sees its own group at the mount point, though its path is the whole one.
  std::string inside = kVersion1;
  inside.replace(inside.find("0:31 / "), 7, "0:31 /docker/c0ffee ");
  const Files own{{"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000"},
                  {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000"}};
  CHECK(granted(group, inside, own) == 2.5);
  CHECK(granted("4:cpu,cpuacct:/docker/c0ffee2\n", inside, own) == 2.5);
  Files both = files("200000\n", "-1\n");
  both["/sys/fs/cgroup/unified/docker/cpu.max"] = "100000 100000";
  CHECK(granted(group, kVersion1 + "35 30 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
                both) == 1);
}

TEST_CASE("processors: names with spaces, and texts that say nothing") {
  const std::string spaced = "29 23 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n";
  CHECK(granted("0::/a b\n", spaced, {{"/my groups/a b/cpu.max", "200000 100000"}}) == 2);
  const Files files{{"/sys/fs/cgroup/cpu.max", "100000 100000"}};
  for (const std::string text :
       {"", "\n", "::", "0::", "0::a", "x", "0:cpu", "4:cpu", "0::/../..", "0:://"})
    CHECK_MESSAGE(granted(text, kVersion2, {}) == std::nullopt, text);
  for (const std::string text :
       {"", " - ", "a b c d e - cgroup2", "1 2 3 - cgroup2 x y", "\\", "29 - cgroup2 cgroup2 rw"})
    CHECK_MESSAGE(granted("0::/\n", text, files) == std::nullopt, text);
  for (const std::string text : {"", "max", "0 100000", "-5 100000", "100000 0", "1e5 100000",
                                 "99999999999999999999 1", "max max"})
    CHECK_MESSAGE(granted("0::/\n", kVersion2, {{"/sys/fs/cgroup/cpu.max", text}}) == std::nullopt,
                  text);
}

TEST_CASE("processors: OMP_NUM_THREADS by its first number") {
  CHECK(threads_wanted("4") == 4);
  CHECK(threads_wanted(" 6 , 2") == 6);
  CHECK(threads_wanted("3,2,1") == 3);
  for (const char* text : {"", ",4", "0", "-1", "1025", "four", "4x", "99999999999999999999"})
    CHECK_MESSAGE(threads_wanted(text) == std::nullopt, text);
}

TEST_CASE("processors: a quota's part of a processor counts as one, and there is always one") {
  CHECK(threads_for(8, std::nullopt) == 8);
  CHECK(threads_for(8, 1.5) == 2);
  CHECK(threads_for(8, .01) == 1);
  CHECK(threads_for(2, 64.) == 2);
  CHECK(threads_for(0, std::nullopt) == 1);
  CHECK(threads_for(4096, 1e300) == 1024);
  CHECK(default_threads() >= 1);
  CHECK(Context::cpu().threads() == default_threads());
}
