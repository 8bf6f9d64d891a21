// The paper's runs as data: rows, lines of runs.jsonl, and what is made of both (bench/paper).
#include <doctest/doctest.h>
#include <fprnn/core/file.h>
#include <fprnn/core/text.h>

#include <cmath>
#include <map>

#include "../bench/paper/both.h"
#include "../bench/paper/document.h"
#include "../bench/paper/tables.h"
#include "folder.h"
#include "refused.h"
#include "sample_run.h"

namespace fprnn::tests {

using namespace paper;

namespace {

constexpr const char* kRow =
    "# A remark.\n"
    "gpu seeds 0-1\n"
    "cpu seeds 7\n"
    "options --steps 10 --lr 1e-3  # of all\n"
    "cpu options --steps 3\n"
    "train A copying --lr 1e-2 --free\n"
    "gpu train B copying --rank 2\n"
    "ask A-cap-8 A --max-iterations 8\n"
    "paper A .5 ± .01\n";

Row row_of(const Folder& folder, const std::string& text, const std::string& scale) {
  write_file(folder.file("row"), text);
  return read_row(folder.file("row"), scale);
}

Run run_of(const Row& row, const std::string& label, uint64_t seed, double accuracy) {
  Run run{.row = row.name, .label = label, .scale = row.scale, .seed = seed};
  run.command = row.command(*row.entry(label), seed);
  run.date = "2026-11-30";
  run.evaluation = sample_run("run", {accuracy, accuracy / 2}, true, 5).evaluation;
  run.evaluation.origin = {.version = "1", .commit = "c0ffee", .machine = {.gpu = "H200"}};
  run.evaluation.origin.seed = seed;
  run.evaluation.protocols.figures = {{"longest_90", accuracy > 0.9 ? 16 : 0}};
  for (LengthResult& result : run.evaluation.lengths) result.residual_max = 0;
  return run;
}

}  // namespace

TEST_CASE("paper: a row's lines are of one scale, and of an option's values the last counts") {
  const Folder folder;
  const Row gpu = row_of(folder, kRow, "gpu"), cpu = row_of(folder, kRow, "cpu");
  CHECK(gpu.seeds == std::vector<uint64_t>{0, 1});
  CHECK(gpu.entries.size() == 3);
  CHECK(gpu.command(*gpu.entry("A"), 1) == "copying --steps 10 --lr 1e-2 --free --seed 1");
  CHECK(gpu.command(*gpu.entry("B"), 0) == "copying --steps 10 --lr 1e-3 --rank 2 --seed 0");
  CHECK(gpu.command(*gpu.entry("A-cap-8"), 1) ==
        "copying --steps 10 --lr 1e-2 --free --seed 1; "
        "copying --evaluate A:1 --max-iterations 8");
  CHECK(cpu.entry("B") == nullptr);
  CHECK(cpu.command(*cpu.entry("A"), 7) == "copying --steps 3 --lr 1e-2 --free --seed 7");
  CHECK(gpu.paper.at("A") == ".5 ± .01");
  CHECK(paper::value_of(cpu.command(*cpu.entry("A-cap-8"), 7), "max-iterations") == "8");
  CHECK(paper::value_of("copying --steps 3; copying --steps 4", "steps") == "4");
  CHECK(paper::value_of("copying --steps 3 --lr", "lr").empty());
}

TEST_CASE("paper: a line says all that tables need, and is short") {
  const Folder folder;
  Run run = run_of(row_of(folder, kRow, "gpu"), "A", 1, 0.987654321);
  run.loss = 0.25;
  run.iterations = 17;
  run.skipped = 2;
  const std::string line = to_line(run);
  CHECK(line.size() < 1200);
  CHECK(line.find('\n') == std::string::npos);
  CHECK(line.find("0.98765,") != std::string::npos);
  run.evaluation.lengths[0].metrics.front().second = 1 - 1e-6;
  CHECK(to_line(run).find("[0.999999,") != std::string::npos);
  const Run back = run_from_line(line, "line");
  CHECK(to_line(back) == line);
  CHECK(back.command == run.command);
  CHECK(back.evaluation.origin == run.evaluation.origin);
  CHECK(back.evaluation.settings == run.evaluation.settings);
  CHECK(back.evaluation.lengths[1].unconverged == run.evaluation.lengths[1].unconverged);
  CHECK(std::abs(back.evaluation.lengths[0].wilson.low.value() -
                 run.evaluation.lengths[0].wilson.low.value()) < 1e-4);

  Run failed{.row = "row", .label = "A", .scale = "gpu", .failed = "why"};
  CHECK(run_from_line(to_line(failed), "line").failed == "why");
  for (const std::string& text :
       {std::string("{"), std::string("{}"), std::string("[]"),
        line.substr(0, line.size() - 1) + ",}", std::string(R"({"row": 4})")})
    CHECK_THROWS_AS(run_from_line(text, "line"), FormatError);
  std::string uneven = line;
  uneven.replace(uneven.find("\"sequences\":[100,100]"), 21, "\"sequences\":[100]");
  CHECK_THROWS_AS(run_from_line(uneven, "line"), FormatError);
}

TEST_CASE("paper: what is still to be made") {
  const Folder folder;
  const Row row = row_of(folder, kRow, "gpu");
  const auto left = [&](const std::vector<Run>& runs) {
    std::string text;
    for (const auto& [entry, seed] : jobs_left(row, runs, folder.file("out")))
      text += entry->label + ":" + std::to_string(seed) + " ";
    return text;
  };
  CHECK(left({}) == "A:0 A:1 B:0 B:1 A-cap-8:0 A-cap-8:1 ");
  const Run a = run_of(row, "A", 0, 1), b = run_of(row, "B", 1, 1),
            asked = run_of(row, "A-cap-8", 0, 1);
  CHECK(left({a, b, asked}) == "A:1 B:0 A-cap-8:1 ");
  // An evaluation needs its training's folder, and is made anew after it.
  CHECK(left({a, b}) == "A:0 A:1 B:0 A-cap-8:0 A-cap-8:1 ");
  CHECK(left({asked, a, b}) == "A:0 A:1 B:0 A-cap-8:0 A-cap-8:1 ");
  Run diverged = a, other = b;
  diverged.failed = "not finite";
  other.command += " --lr 1";
  CHECK(left({diverged, other}) == "A:1 B:0 B:1 A-cap-8:1 ");
}

TEST_CASE("paper: of two lines of one run the last counts") {
  const Folder folder;
  const Row row = row_of(folder, kRow, "gpu");
  const Run first = run_of(row, "A", 0, 0.5), other = run_of(row, "A", 1, 0.75);
  Run last = first;
  last.date = "2026-12-01";
  write_file(folder.file("runs"),
             to_line(first) + "\n" + to_line(other) + "\n" + to_line(last) + "\n{\"row\": cut");
  const std::vector<Run> runs = read_runs(folder.file("runs"));
  REQUIRE(runs.size() == 2);
  CHECK(runs[1].date == "2026-12-01");
  CHECK(read_runs(folder.file("none")).empty());
}

TEST_CASE("paper: a table has medians, seeds, counts and what is lacking") {
  const Folder folder;
  const std::vector<Row> rows = {row_of(folder, kRow, "gpu"), row_of(folder, kRow, "cpu")};
  Run failed = run_of(rows[0], "B", 1, 0);
  failed.failed = "not finite";
  Run stale = run_of(rows[0], "B", 0, 0.25);
  stale.command += " --lr 1";
  const std::vector<Run> runs = {run_of(rows[0], "A", 1, 1), run_of(rows[0], "A", 0, 0.5), failed,
                                 stale, run_of(rows[1], "A", 7, 0.125)};
  const auto table = [&](const std::vector<std::string>& words) {
    return table_of(query_of(words), rows, runs);
  };
  const std::string all = table({"row=row", "at=16"});
  CHECK(all ==
        "| whole sequences | paper | at 16 | parameters | steps | seconds |\n"
        "|---|---|---|---|---|---|\n"
        "| `A` | .5 ± .01 | .750 (.500 1) | 12345 | 5 | 62 |\n"
        "| `B` |  | failed | - | - | - |\n"
        "\n"
        "`docs/paper/run.sh row`: 3 runs, 1 failed; 2026-11-30; commit c0ffee; H200.\n"
        "Lacking: `B` (1 of 2), `A-cap-8` (0 of 2).\n");
  CHECK(table({"row=row", "labels=A", "show=solved", "at=16,32"})
            .find("| `A` | .5 ± .01 | 1 of 2 (.095-.905) | 0 of 2 (.000-.658) |") !=
        std::string::npos);
  CHECK(table({"row=row", "labels=A*", "metric=iterations", "at=32"})
            .find("| 20.25 (20.25 20.25) |") != std::string::npos);
  CHECK(table({"row=row", "labels=A", "metric=longest_90"}).find("| longest 90 | paper | ours |") !=
        std::string::npos);
  CHECK(table({"row=row", "scale=cpu", "at=16"}).find("| `A` | .5 ± .01 | .125 |") !=
        std::string::npos);
  CHECK(table({"row=2,3"}) == "Lacking: all runs of row 2, 3 (gpu).\n");
  CHECK(cell_text(-0.0625, true) == "-.062");
  CHECK(cell_text(1, true) == "1");
  CHECK(cell_text(0, true) == "0");
  CHECK(cell_text(0.99951, true) == ".9995");
  CHECK(cell_text(-0.0001, true) == "-.0001");
  CHECK(cell_text(2.09412, false) == "2.094");
  CHECK(cell_text(std::nan(""), true) == "-");
  CHECK_THROWS_AS(query_of({"row=2", "color=red"}), FormatError);
  CHECK_THROWS_AS(query_of({"at=16"}), FormatError);
  CHECK_THROWS_AS(query_of({"row=2", "show=all"}), FormatError);
}

TEST_CASE("paper: a chart of what is measured joins labels that differ by their number") {
  const Folder folder;
  const std::string text =
      "gpu seeds 0\ntrain d-1 copying --layers 1\ntrain d-4 copying --layers 4\n"
      "train e2 copying --layers 2\n";
  const std::vector<Row> rows = {row_of(folder, text, "gpu")};
  std::vector<Run> runs;
  for (const Entry& entry : rows[0].entries) runs.push_back(run_of(rows[0], entry.label, 0, 1));
  const Document made = made_document(
      "# Head\n<!-- chart depth row=row x=layers y=longest title=By_depth -->\n<!-- end -->\n"
      "<!-- chart none row=2 -->\n<!-- end -->\n",
      "paper", rows, runs);
  CHECK(made.text ==
        "# Head\n<!-- chart depth row=row x=layers y=longest title=By_depth -->\n"
        "![By depth](paper/depth.svg)\n<!-- end -->\n"
        "<!-- chart none row=2 -->\nLacking: all runs of row 2 (gpu).\n<!-- end -->\n");
  CHECK(made.lacking == std::vector<std::string>{"Head: Lacking: all runs of row 2 (gpu).\n"});
  REQUIRE(made.charts.size() == 1);
  const std::string& svg = made.charts.at("depth.svg");
  CHECK(svg.find("By depth</title>") != std::string::npos);
  CHECK(svg.find(">d</tspan>") != std::string::npos);
  CHECK(svg.find(">e2</tspan>") != std::string::npos);
  CHECK(svg.find(">d-4</tspan>") == std::string::npos);
  CHECK(made_document(made.text, "paper", rows, runs).text == made.text);
  CHECK(without_version(svg).find("solver") == std::string::npos);
}

TEST_CASE("paper: whether one model alone does two things is shown, refuted or open") {
  const Folder folder;
  write_file(folder.file("1"),
             "gpu seeds 0\ntrain A5-H state_tracking --rank 2\n"
             "train A5-mamba state_tracking --model mamba\n"
             "train A5-lstm state_tracking --model lstm\nask A5-lstm-far A5-lstm --steps 1\n");
  write_file(folder.file("2"),
             "gpu seeds 0-1\ntrain H copying --rank 2\ntrain mamba copying --model mamba\n");
  const std::vector<Row> rows = {read_row(folder.file("1"), "gpu"),
                                 read_row(folder.file("2"), "gpu")};
  const Run h = run_of(rows[0], "A5-H", 0, 1), mamba = run_of(rows[0], "A5-mamba", 0, 0.5),
            lstm = run_of(rows[0], "A5-lstm", 0, 1), h0 = run_of(rows[1], "H", 0, 0.9),
            h1 = run_of(rows[1], "H", 1, 1), mamba0 = run_of(rows[1], "mamba", 0, 1),
            mamba1 = run_of(rows[1], "mamba", 1, 1);
  const auto words = [](const std::string& text) { return split(text, ' '); };
  const auto text = [&](const std::vector<Run>& runs) {
    return both_text(
        both_of(
            words("by=fp-mamba but=lstm least=0.9 and row=1 labels=A5-* at=16 "
                  "metric=whole_sequences title=A5 and row=2 at=16 metric=tokens title=copying")),
        rows, runs);
  };
  const auto says = [&](const std::vector<Run>& runs, const std::string& verdict) {
    const std::string made = text(runs);
    CHECK_MESSAGE(made.find("\n" + verdict + "\n") != std::string::npos, made);
  };
  CHECK(text({}) == "Lacking: all runs of row 1 (gpu).\nLacking: all runs of row 2 (gpu).\n");
  CHECK(text({h, mamba, lstm, h0, h1})
            .starts_with("| model | A5 | copying | both |\n|---|---|---|---|\n"
                         "| `H` | 1 | .975 (.950 1) | yes |\n"
                         "| `mamba` | .500 | - | no |\n"
                         "| `lstm` | 1 | - | open |\n\nShown: `H`.\n\n"
                         "`docs/paper/run.sh 1`: 3 runs;"));
  says({h, h0, h1}, "Open, for lack of A5 of `mamba`; copying of `mamba`.");
  says({h, mamba, h0}, "Open, for lack of copying of `H`.");
  Run solves = mamba, fails = h, diverged = h1;
  solves.evaluation.lengths[0].metrics[0].second = 0.9;
  fails.evaluation.lengths[0].metrics[0].second = 0.89;
  diverged.failed = "not finite";
  says({h, solves, h0, h1, mamba0}, "Open, for lack of copying of `mamba`.");
  says({h, solves, mamba0, mamba1}, "Refuted: `mamba` of another model.");
  says({fails}, "Refuted: none of `fp-mamba`.");
  says({h, mamba, h0, diverged}, "Refuted: none of `fp-mamba`.");
  const std::string part = " and row=1 metric=x at=1";
  for (const std::string& wrong :
       {"by=a least=1" + part, "by=a" + part + part, "by=a least=1 of=b" + part + part,
        "by=a least=1 and row=1 at=1" + part, "by=a least=1 and row=1 metric=x" + part})
    CHECK_THROWS_AS(both_of(words(wrong)), FormatError);
}

TEST_CASE("paper: figure 6 names each training of its rows, and no evaluation") {
  std::vector<Row> rows;
  std::vector<Run> runs;
  for (const char* name : {"1", "2", "3", "6", "10"})
    rows.push_back(read_row(std::string(FPRNN_SOURCE_DIR "/docs/paper/rows/") + name, "gpu"));
  for (const Row& row : rows)
    for (const Entry& entry : row.entries)
      for (const uint64_t seed : row.seeds) {
        Run& run = runs.emplace_back(run_of(row, entry.label, seed, 0.5));
        const auto number = static_cast<double>(runs.size());
        run.evaluation.model = paper::value_of(run.command, "model");
        run.evaluation.train_seconds = 10 + number;
        run.evaluation.protocols.figures = {{"longest_90", std::floor(std::pow(number, 1.2))}};
      }
  runs.front().evaluation.protocols.figures = {{"longest_90", 0}};
  const Document made =
      made_document(read_file(FPRNN_SOURCE_DIR "/docs/paper.md", 1'000'000), "paper", rows, runs);
  std::map<std::string, int> marks;
  for (const char* name : {"fig6-a5.svg", "fig6-s5.svg"}) {
    const std::string& svg = made.charts.at(name);
    for (size_t at = svg.find("</text>"); at != std::string::npos; at = svg.find("</text>", at + 1))
      ++marks[svg.substr(svg.rfind('>', at) + 1, at - svg.rfind('>', at) - 1)];
  }
  for (const Row& row : rows)
    for (const Entry& entry : row.entries)
      CHECK_MESSAGE(marks[entry.label] == (entry.of.empty() ? 1 : 0), entry.label);
}

}  // namespace fprnn::tests
