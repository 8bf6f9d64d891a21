// What the terminal shows of runs, to the letter, and what it must hold whatever the runs are.
#include <doctest/doctest.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/report.h>
#include <fprnn/tasks/report/table.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "sample_run.h"

namespace fprnn::tests {

namespace {

using Runs = std::vector<RunResult>;

const RunResult kFp = sample_run("fp-mamba", {1, 0.95, 0.6, 0.1, 0}, true);
const RunResult kMamba = sample_run("mamba", {0.02, 0, 0, 0, 0}, false);

// Below an empty line, so that the expected texts can begin on a line of their own.
std::string table(const Runs& runs) { return std::string("\n").append(report_table(runs)); }
std::string chart(const Runs& runs, Glyphs glyphs) {
  return std::string("\n").append(report_chart(runs, glyphs));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// At most 100 characters a line, none of them invisible, and no space at its end.
void check_lines(const std::string& text) {
  CHECK((text.empty() || text.ends_with('\n')));
  for (const std::string& line : lines_of(text)) {
    CHECK_MESSAGE(width(line) <= 100, line);
    CHECK_MESSAGE(printable(line) == line, line);
    CHECK_MESSAGE(!line.ends_with(' '), line);
  }
}

int64_t occurrences(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// The rows of the canvas, without what stands beside it.
std::string canvas(const Runs& runs, Glyphs glyphs = Glyphs::unicode) {
  const std::string text = report_chart(runs, glyphs);
  check_lines(text);
  std::string rows;
  for (const std::string& line : lines_of(text))
    for (const std::string edge : {"┤", "│"})
      if (line.find(edge) != std::string::npos) rows += line.substr(line.find(edge)) + "\n";
  CHECK(lines_of(rows).size() == 13);
  return rows;
}

}  // namespace

TEST_CASE("report table: one run of a model with fixed points") {
  CHECK(table({kFp}) ==
        R"(
length   sequences   whole sequences  tokens  last token  iterations  residual  unconverged
-------  ---------  ----------------  ------  ----------  ----------  --------  -----------
    16*        100  1.0000 .963-1.00  1.0000      1.0000  20.2 ( 16)   9.0e-05            0
    32         100  0.9500 .888-.978  0.9750      0.9500  20.2 ( 32)   9.0e-05            0
    64         100  0.6000 .502-.691  0.8000      0.6000  20.2 ( 64)   9.0e-05            1
   128         100  0.1000 .055-.174  0.5500      0.1000  20.2 (128)   9.0e-05            2
   256         100  0.0000 .000-.037  0.5000      0.0000  20.2 (256)   9.0e-05            4
* trained at length 16; ranges: 95 % Wilson intervals; iterations: mean and (most)
)");
}

TEST_CASE("report table: one run of a model without") {
  CHECK(table({kMamba}) ==
        R"(
length   sequences   whole sequences  tokens  last token
-------  ---------  ----------------  ------  ----------
    16*        100  0.0200 .006-.070  0.5100      0.0200
    32         100  0.0000 .000-.037  0.5000      0.0000
    64         100  0.0000 .000-.037  0.5000      0.0000
   128         100  0.0000 .000-.037  0.5000      0.0000
   256         100  0.0000 .000-.037  0.5000      0.0000
* trained at length 16; ranges: 95 % Wilson intervals
)");
}

TEST_CASE("report table: no share is rounded to a 0 or 1 that it is not") {
  const std::vector<std::pair<double, const char*>> cases = {
      {1, "1.000"},       {0, "0.000"},        {-0.0, "0.000"},      {0.5, "0.500"},
      {0.9994, "0.999"},  {0.99951, "0.9995"}, {0.99996, "0.99996"}, {1 - 2.0 / 1e7, "0.9999998"},
      {0.0004, "0.0004"}, {1e-6, "0.000001"},  {-0.0004, "-0.0004"}, {-0.9999, "-0.9999"},
      {1.0001, "1.0001"}, {1.9999, "2.000"},   {1 - 1e-15, "1.000"}, {-1e-15, "0.000"}};
  for (const auto& [value, text] : cases) CHECK(share_text(value, 3) == text);
  CHECK(share_text(0.99996, 4) == "0.99996");
  CHECK(fraction(std::nan("")) == "-");
  RunResult run = sample_run("nearly", {1}, false);
  run.evaluation.lengths[0].metrics = {{"whole_sequences", 4095.0 / 4096}, {"tokens", 1e-5}};
  run.evaluation.lengths[0].wilson = {.low = 1e-4, .high = 0.99994};
  CHECK(table({run}).find("  0.9998 .0001-.9999  0.00001\n") != std::string::npos);
}

TEST_CASE("report table: runs side by side") {
  CHECK(table({kFp, kMamba}) ==
        R"(
whole sequences right
length          fp-mamba              mamba
------  -----------------  -----------------
    16  1.0000 .963-1.00*  0.0200 .006-.070*
    32  0.9500 .888-.978   0.0000 .000-.037
    64  0.6000 .502-.691   0.0000 .000-.037
   128  0.1000 .055-.174   0.0000 .000-.037
   256  0.0000 .000-.037   0.0000 .000-.037
* the length that this run was trained at; ranges: 95 % Wilson intervals
fp-mamba: 7 of 500 sequences unconverged
)");
}

TEST_CASE("report chart: two runs") {
  CHECK(chart({kFp, kMamba}, Glyphs::unicode) ==
        R"(
      whole sequences right, by length (log scale)
1.00 ┤ ●⠤⠤⠤⠤⠤⢤⣀⣀⣀⣀⣀⣀
     │ ┊           ⠈⠉●⠓⠦⣀
     │ ┊                ⠈⠙⠲⣄⡀
0.75 ┤ ┊                    ⠉⠳⢤⣀
     │ ┊                       ⠈⠓⠦⣄
     │ ┊                           ⠙●⣄
0.50 ┤ ┊                             ⠈⠳⢄⡀
     │ ┊                                ⠙⢦⡀
     │ ┊                                  ⠉⠳⣄
0.25 ┤ ┊                                    ⠈⠓⢤⡀
     │ ┊                                       ⠙⠦⣀
     │ ┊                                         ⠈●⠒⠲⠤⠤⢤⣀⣀⣀
0.00 ┤ ○⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒○⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒○⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒○⠒⠒⠒⠒⠒⠒⠒⠚⠛⠛⠛⠒⠒●○
     └─┴─────────────┴──────────────┴─────────────┴─────────────┴─
      16            32             64            128           256
      ● fp-mamba   ○ mamba   ┊ trained at length 16
)");
}

TEST_CASE("report chart: two runs in ASCII") {
  CHECK(chart({kFp, kMamba}, Glyphs::ascii) ==
        R"(
      whole sequences right, by length (log scale)
1.00 + o............
     | :           ..o...
     | :                .....
0.75 + :                    ....
     | :                       ....
     | :                           .o.
0.50 + :                             ....
     | :                                ...
     | :                                  ...
0.25 + :                                    ....
     | :                                       ...
     | :                                         .o........
0.00 + x.............x..............x.............x.............ox
     +-+-------------+--------------+-------------+-------------+-
      16            32             64            128           256
      o fp-mamba   x mamba   : trained at length 16
)");
}

TEST_CASE("report table: lengths, runs and figures that are missing") {
  for (const Runs& runs : {Runs{}, Runs{RunResult{}}, Runs{RunResult{}, RunResult{}}}) {
    CHECK(report_table(runs).empty());
    CHECK(report_chart(runs, Glyphs::unicode).empty());
  }
  Runs runs = {sample_run("short", {1}, false), sample_run("long", {1, std::nan("")}, false)};
  runs[1].evaluation.train_length = 8;
  CHECK(table(runs) == R"(
whole sequences right
length             short               long
------  -----------------  -----------------
    16  1.0000 .963-1.00*  1.0000 .963-1.00
    32                 -                  -
* the length that this run was trained at; ranges: 95 % Wilson intervals
)");
  runs.emplace_back();
  CHECK(lines_of(report_table(runs)).size() == 6);
}

TEST_CASE("report: metrics by name, of any number and range") {
  RunResult run{.name = "a"};
  run.evaluation.lengths = {
      {.length = 8, .sequences = 4, .metrics = {{"bits_per_byte", 2.5}, {"keys", 0.25}}},
      {.length = 16, .sequences = 4, .metrics = {{"bits_per_byte", 1.75}, {"keys", 0.5}}}};
  CHECK(table({run}) == R"(
length   sequences  bits per byte    keys
-------  ---------  -------------  ------
     8           4         2.5000  0.2500
    16           4         1.7500  0.5000
trained at length 0
)");
  RunResult other = sample_run("b", {1}, false);  // which has no such metric
  CHECK(table({run, other}) == R"(
bits per byte
length       a   b
------  -------  --
     8  2.5000   -
    16  1.7500   -*
* the length that this run was trained at; ranges: 95 % Wilson intervals
)");
  const std::vector<std::string> lines = lines_of(report_chart(Runs{run}, Glyphs::ascii));
  CHECK(lines[0] == "      bits per byte, by length");
  CHECK(lines[1].starts_with("2.50 + o"));
  CHECK(lines[13].starts_with("1.75 +"));
  CHECK(lines[13].ends_with("o"));
  CHECK(main_metric(Runs{run, other}).name == "bits_per_byte");
  CHECK(!main_metric(Runs{run, other}).is_share);
  CHECK(main_metric(Runs{other, run}).caption == "whole sequences right");

  run.evaluation.lengths[1].metrics.clear();
  for (int i = 0; i < 30; ++i)
    run.evaluation.lengths[1].metrics.emplace_back("name_" + std::to_string(i) + "\n\x1B[2J", 1e9);
  check_lines(report_table(Runs{run}));
  check_lines(report_chart(Runs{run}, Glyphs::ascii));
  for (const double value : {-2e7, 0.0, 1e99, 123.0})
    for (const double beside : {-5.0, 1e-9, 4e12}) {
      run.evaluation.lengths[0].metrics = {{"x", value}};
      run.evaluation.lengths[1].metrics = {{"x", beside}};
      check_lines(report_chart(Runs{run}, Glyphs::unicode));
    }
}

TEST_CASE("report labels: a task's problem is named by its settings") {
  CHECK(problem_of({}).empty());
  CHECK(problem_of({{"group", "S3"}}) == "S3");
  CHECK(problem_of({{"variant", "mqar"}, {"keys", "4"}, {"open", "true"}}) ==
        "mqar, keys 4, open true");
}

TEST_CASE("report table: many runs and long names keep to 100 columns") {
  for (const size_t count : {2, 5, 12, 60}) {
    Runs runs;
    for (size_t i = 0; i < count; ++i)
      runs.push_back(sample_run(std::string(i * 9, 'x') + "_run", {1, 0.5}, i % 2 == 0));
    check_lines(report_table(runs));
    for (const Glyphs glyphs : {Glyphs::ascii, Glyphs::unicode})
      check_lines(report_chart(runs, glyphs));
  }
}

TEST_CASE("report chart: points of every number, all right, all wrong") {
  for (const size_t count : {1, 2, 3, 12, 50}) {
    const std::string right = canvas({sample_run("a", std::vector<double>(count, 1), false)});
    const std::string wrong = canvas({sample_run("a", std::vector<double>(count, 0), false)});
    const int64_t marks = occurrences(right, "●");
    CHECK(marks == occurrences(wrong, "●"));
    CHECK((count > 12 ? marks > 12 : marks == static_cast<int64_t>(count)));
    CHECK(occurrences(lines_of(right).front(), "●") == marks);
    CHECK(occurrences(lines_of(wrong).back(), "●") == marks);
  }
}

TEST_CASE("report chart: curves that coincide show all their marks") {
  for (const double accuracy : {0.0, 0.5, 1.0}) {
    const RunResult run = sample_run("a", {accuracy, accuracy, accuracy}, false);
    const std::string rows = canvas({run, run, run});
    for (const char* mark : {"●", "○", "■"}) CHECK(occurrences(rows, mark) == 3);
    CHECK(occurrences(rows, "●○") + occurrences(rows, "■●○") >= 3);
  }
}

TEST_CASE("report chart: gaps break a line") {
  const double nan = std::nan("");
  const std::string rows = canvas({sample_run("a", {1, nan, 1}, false)});
  CHECK(lines_of(rows).front().find("⠒") == std::string::npos);
  CHECK(occurrences(rows, "●") == 2);
  CHECK(occurrences(canvas({sample_run("a", {nan, nan}, false)}), "●") == 0);
}

TEST_CASE("report chart: the training length is marked where it was not evaluated") {
  RunResult run = sample_run("a", {1, 0.5}, false);
  run.evaluation.train_length = 64;
  const std::string text = report_chart(Runs{run}, Glyphs::unicode);
  CHECK(text.find("┊ trained at length 64") != std::string::npos);
  CHECK(text.find(" 64\n") != std::string::npos);
  CHECK(occurrences(text, "┊") == 14);
  run.evaluation.train_length = 0;
  CHECK(occurrences(report_chart(Runs{run}, Glyphs::unicode), "┊") == 0);
}

TEST_CASE("report chart: whatever numbers a file holds") {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  RunResult run;
  for (const int64_t a : {int64_t{0}, int64_t{1}, int64_t{1000}, kMost})
    for (const int64_t b : {int64_t{0}, int64_t{2}, kMost - 1, kMost})
      for (const double accuracy : {0.0, 1.0, 7.0, -1e300, std::nan(""), HUGE_VAL}) {
        run.evaluation.train_length = b;
        run.evaluation.lengths = {{.length = a, .metrics = {{"x", accuracy}}},
                                  {.length = b, .metrics = {{"x", 0.5}}, .iterations_mean = 1e300},
                                  {.length = b, .metrics = {{"x", accuracy}}}};
        CHECK(report_table(Runs{run}).ends_with('\n'));
        canvas({run, run});
      }
}

TEST_CASE("report labels: what distinguishes the names, printable and short") {
  const auto labels = [](const std::vector<std::string>& names, int64_t most) {
    Runs runs;
    for (const std::string& name : names) runs.push_back(sample_run(name, {1}, false));
    return run_labels(runs, most);
  };
  using Names = std::vector<std::string>;
  CHECK(labels({"s3-fp", "s3-mamba"}, 20) == Names{"s3-fp", "s3-mamba"});
  CHECK(labels({"s3-fp-mamba-seed1", "s3-fp-mamba-seed22"}, 12) == Names{"seed1", "seed22"});
  CHECK(labels({"abcdefghijkl"}, 8) == Names{"abc..jkl"});
  CHECK(labels({"äöüäöüäöüäöü"}, 8) == Names{"äöü..äöü"});
  CHECK(labels({"run", "run", "run"}, 20) == Names{"run", "run (2)", "run (3)"});
  CHECK(labels({"same-long-name", "same-long-name"}, 9) == Names{"name", "name (2)"});
  CHECK(labels({""}, 20) == Names{"mamba"});
  CHECK(labels({"a-long-prefix-", "a-long-prefix-b"}, 10) == Names{"a-lo..fix-", "b"});
}

TEST_CASE("report labels: what a terminal or XML would not bear becomes a question mark") {
  CHECK(printable("a\tb\nc\x1B[31m\x7F") == "a?b?c?[31m?");
  CHECK(printable("é 漢 😀 ±") == "é 漢 😀 ±");
  CHECK(printable("\xC3") == "?");
  CHECK(printable("\xC3(") == "?(");
  CHECK(printable("\xC0\x80") == "??");            // overlong
  CHECK(printable("\xE0\x80\x80") == "???");       // overlong
  CHECK(printable("\xED\xA0\x80") == "???");       // a surrogate
  CHECK(printable("\xF4\x90\x80\x80") == "????");  // beyond Unicode
  CHECK(printable("\xC2\x9B") == "?");             // a control
  CHECK(printable("\xE2\x80\xAE") == "?");         // right to left from here
  CHECK(printable("\xEF\xBF\xBF") == "?");         // no character
  CHECK(printable(std::string("a\0b", 3)) == "a?b");
  for (const int64_t most : {0, 1, 2, 3, 5})
    CHECK(width(shortened("äbcdefgh", most)) <= std::max<int64_t>(most, 2));
}

}  // namespace fprnn::tests
