// Runs that differ by their seed alone: which belong together, their statistics, and what is written.
#include <doctest/doctest.h>
#include <fprnn/core/check.h>
#include <fprnn/tasks/report/run_groups.h>
#include <fprnn/tasks/run/compare.h>
#include <fprnn/tasks/run/seeds.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "folder.h"
#include "refused.h"
#include "sample_run.h"

namespace fprnn::tests {

namespace {

RunResult seed_run(const std::string& name, uint64_t seed, const std::vector<double>& accuracies,
                   const std::string& configuration = "{\n}\n") {
  RunResult run = sample_run(name, accuracies, false, 3);
  run.evaluation.origin.seed = seed;
  run.configuration = configuration;
  return run;
}

RunGroup five() {
  return {.name = "a,\"5\"",
          .runs = {seed_run("seed_0", 0, {1, 0.5}), seed_run("seed_1", 1, {0.99, 0.25}),
                   seed_run("seed_4", 4, {0.98, 0}), seed_run("seed_9", 9, {0, 0})},
          .failed = {7}};
}

}  // namespace

TEST_CASE("seeds: the median of a sample") {
  CHECK(median({3}) == 3);
  CHECK(median({3, 1}) == 2);
  CHECK(median({5, 1, 3}) == 3);
  CHECK(median({1e308, 1.5e308}) == 1.25e308);
  CHECK(median({std::nan(""), 2, 1}) == 1.5);
  CHECK(std::isnan(median({})));
}

TEST_CASE("seeds: only runs that differ by their seed alone are one") {
  RunResult other_commit = seed_run("c_2", 5, {1});
  other_commit.evaluation.origin.commit = "abc";
  std::vector<RunResult> runs = {seed_run("a_2", 2, {1}),
                                 seed_run("b_0", 0, {1}, "{\"lr\": 1\n}\n"),
                                 seed_run("a_1", 1, {1}),
                                 seed_run("again", 2, {1}),
                                 other_commit,
                                 seed_run("bare", 3, {1}, ""),
                                 seed_run("bare", 4, {1}, ""),
                                 seed_run("b_7", 7, {1}, "{\"lr\": 1\n}\n")};
  const std::vector<RunGroup> groups = grouped(runs);
  std::string found;
  for (const RunGroup& group : groups) {
    found += group.name + ":";
    for (const RunResult& run : group.runs) found += " " + run.name;
    found += "\n";
  }
  CHECK(found == "a: a_1 a_2\nb: b_0 b_7\nagain: again\nc_2: c_2\nbare: bare\nbare: bare\n");
  CHECK(grouped({seed_run("x/seed_0", 0, {}), seed_run("x/seed_1", 1, {})})[0].name == "x");
  CHECK(grouped({seed_run("seed_0", 0, {}), seed_run("seed_1", 1, {})})[0].name == "mamba");
  CHECK(grouped({}).empty());
}

TEST_CASE("seeds: median, ends and solved ones of seeds, a failed one among them") {
  const RunGroup group = five();
  const std::vector<Spread> all = spreads(group, main_metric(RunGroups(&group, 1)));
  REQUIRE(all.size() == 2);
  CHECK(all[0].length == 16);
  CHECK(all[0].values == std::vector<double>{1, 0.99, 0.98, 0});
  CHECK(all[0].median == 0.985);
  CHECK(all[0].least == 0);
  CHECK(all[0].most == 1);
  CHECK(all[0].solved == 2);
  CHECK(all[0].interval == wilson_interval(2.0 / 5, 5));
  CHECK(all[1].median == 0.125);
  CHECK(all[1].solved == 0);
  CHECK(report_table(RunGroups(&group, 1)) == R"(a,"5": whole sequences right, by length
    seed               16*                32
--------  ----------------  ----------------
       0            1.0000            0.5000
       1            0.9900            0.2500
       4            0.9800            0.0000
       9            0.0000            0.0000
7 failed                 -                 -
  median            0.9850            0.1250
     min            0.0000            0.0000
     max            1.0000            0.5000
  solved  2 of 5 .118-.769  0 of 5 .000-.434
* trained at this length; solved: seeds with 0.99 or more, with 95 % Wilson intervals
)");
}

TEST_CASE("seeds: one run is itself, several are their medians") {
  const std::vector<RunGroup> groups = {five(), {.name = "b", .runs = {seed_run("b", 0, {0.5})}}};
  const std::vector<RunResult> shown = medians(groups);
  CHECK(shown[0].name == "a,\"5\" (5 seeds)");
  CHECK(shown[0].evaluation.lengths[0].metric("whole_sequences") == 0.985);
  CHECK(shown[0].evaluation.lengths[0].sequences == 400);
  CHECK(shown[0].metrics.size() == 3);
  CHECK(shown[0].metrics[1].loss == 1);
  CHECK(shown[1].evaluation == groups[1].runs[0].evaluation);
  const std::string table = report_table(groups);
  CHECK(table.find("a,\"5\" (5 seeds)") != std::string::npos);
  CHECK(table.find("7 failed") != std::string::npos);
  const std::vector<RunGroup> none = {{.name = "x", .failed = {1, 2}}};
  CHECK(report_table(none).find("1 failed") != std::string::npos);
  CHECK(report_table(RunGroups()).empty());
  CHECK(report_svg(none).ends_with("</svg>\n"));
}

TEST_CASE("seeds: metrics that are no share have no solved seeds") {
  RunGroup group{.name = "bits", .runs = {seed_run("a", 0, {0}), seed_run("a", 1, {0})}};
  for (RunResult& run : group.runs)
    run.evaluation.lengths[0].metrics = {
        {"bits_per_byte", 2.5 + static_cast<double>(run.evaluation.origin.seed)}};
  const RunGroups one(&group, 1);
  CHECK(report_table(one).find("solved") == std::string::npos);
  CHECK(summary_csv(one).ends_with("bits,16,bits_per_byte,2,0,3,2.5,3.5,,,\n"));
  CHECK(summary_json(one).find("solved") == std::string::npos);
}

TEST_CASE("seeds: summaries for programs") {
  const RunGroup group = five();
  const RunGroups one(&group, 1);
  const auto number = [](std::optional<double> x) { return nlohmann::json(x.value()).dump(); };
  const Interval two_of_five = wilson_interval(0.4, 5);
  const std::string csv = summary_csv(one);
  CHECK(csv.starts_with(
      "runs,length,metric,seeds,failed,median,min,max,solved,wilson_low,wilson_high\n"
      "\"a,\"\"5\"\"\",16,whole_sequences,5,1,0.985,0,1,2," +
      number(two_of_five.low) + "," + number(two_of_five.high) + "\n"));
  const auto json = nlohmann::json::parse(summary_json(one));
  CHECK(json["metric"] == "whole_sequences");
  CHECK(json["groups"][0]["seeds"] == std::vector<int>{0, 1, 4, 9});
  CHECK(json["groups"][0]["failed"] == std::vector<int>{7});
  const auto& at_16 = json["groups"][0]["lengths"][0];
  CHECK(at_16["values"] == std::vector<double>{1, 0.99, 0.98, 0});
  CHECK(at_16["median"] == 0.985);
  CHECK(at_16["wilson_low"] == two_of_five.low.value());
}

TEST_CASE("seeds: numbers and ranges") {
  CHECK(seeds_named("3") == std::vector<uint64_t>{3});
  CHECK(seeds_named("5-6,0,2-3") == std::vector<uint64_t>{0, 2, 3, 5, 6});
  CHECK(seeds_named("18446744073709551615").front() == ~uint64_t{0});
  CHECK(seeds_named("18446744073709551614-18446744073709551615").size() == 2);
  CHECK(seeds_named("0-999").size() == 1000);
  for (const char* text : {"", "a", "1-", "-1", "3-1", "0-1-2", "0,,1", "1,1", "0-3,2", "0-1000",
                           "0-999,1000", "0-18446744073709551615", "18446744073709551616", "0x1"})
    check_refused<ValueError>("seeds", [&] { seeds_named(text); });
}

TEST_CASE("seeds: a folder appears whole, with nothing else in it, and is read as one group") {
  const Folder folder;
  const std::string many = folder.file("many");
  const auto config_of = [](uint64_t seed) {
    return "{\n  \"seed\": " + std::to_string(seed) + ",\n  \"lr\": 1\n}\n";
  };
  CHECK_THROWS_AS(make_seeds(many, std::vector<uint64_t>{2, 10},
                             [&](uint64_t seed) -> std::string {
                               if (seed == 10) throw ValueError("test", "no such seed");
                               return config_of(seed);
                             }),
                  ValueError);
  CHECK(std::filesystem::is_empty(folder.path()));
  make_seeds(many, std::vector<uint64_t>{10, 2}, config_of);
  CHECK(seeds_in(many) == std::vector<uint64_t>{2, 10});
  CHECK(seeds_in(folder.path()).empty());
  check_refused<UsageError>("there are seeds in it",
                            [&] { make_seeds(many, std::vector<uint64_t>{1}, config_of); });
  check_refused<UsageError>("new or an empty folder", [&] {
    make_seeds(folder.path(), std::vector<uint64_t>{1}, config_of);
  });
  for (const Wants wants : {Wants::run, Wants::evaluation})
    check_refused<UsageError>("there are seeds in it", [&] { check_unused(many, wants); });
  check_unused(many, Wants::comparison);

  replace_file(seed_folder(many, 10) + "/eval.json", to_json(seed_run("", 10, {1}).evaluation));
  const RunGroup group = read_seeds(many + "/");
  CHECK(group.name == "many");
  CHECK(group.failed == std::vector<uint64_t>{2});
  REQUIRE(group.runs.size() == 1);
  CHECK(group.runs[0].configuration == "{\n  \"lr\": 1\n}\n");
  const std::vector<RunGroup> groups = read_groups(many + "," + seed_folder(many, 10));
  REQUIRE(groups.size() == 2);
  CHECK(groups[1].name == "seed_10");
  check_refused<FileError>("eval.json", [&] { read_groups(seed_folder(many, 2)); });
}

}  // namespace fprnn::tests
