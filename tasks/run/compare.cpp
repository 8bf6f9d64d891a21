#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/run/compare.h>
#include <fprnn/tasks/run/output.h>

namespace fprnn {

RunGroup read_seeds(const std::string& folder) {
  RunGroup group{.name = name_of_run(folder)};
  for (const uint64_t seed : seeds_in(folder)) try {
      group.runs.push_back(read_run(seed_folder(folder, seed)));
    } catch (const Error&) {
      group.failed.push_back(seed);
    }
  return group;
}

std::vector<RunGroup> read_groups(std::string_view folders) {
  std::vector<RunGroup> groups;
  std::vector<RunResult> alone;
  // Runs that are named one by one are grouped as far as they stand beside each other.
  const auto group_them = [&] {
    for (RunGroup& group : grouped(std::exchange(alone, {}))) groups.push_back(std::move(group));
  };
  for (const std::string& folder : split(folders, ',')) {
    if (folder.empty()) continue;
    if (seeds_in(folder).empty()) {
      alone.push_back(read_run(folder));
    } else {
      group_them();
      groups.push_back(read_seeds(folder));
    }
  }
  group_them();
  return groups;
}

void write_groups(const RunDirectory& out, RunGroups groups) {
  out.write_report(report_svg(groups));
  replace_file(out.file("summary.csv"), summary_csv(groups));
  replace_file(out.file("summary.json"), summary_json(groups));
  print(fmt::format("\n{0}/report.svg, {0}/summary.csv, {0}/summary.json\n", out.path()));
}

void compare(std::string_view folders, const std::string& out) {
  if (!out.empty()) check_unused(out, Wants::comparison);
  const std::vector<RunGroup> groups = read_groups(folders);
  print_report(groups);
  if (!out.empty()) write_groups(RunDirectory::for_results(out, Wants::comparison), groups);
}

}  // namespace fprnn
