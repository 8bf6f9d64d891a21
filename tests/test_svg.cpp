// report.svg: well formed whatever the runs are called and hold, small, the same every time.
#include <doctest/doctest.h>
#include <fprnn/tasks/report/axis.h>
#include <fprnn/tasks/report/curves.h>
#include <fprnn/tasks/report/names.h>
#include <fprnn/tasks/report/plot.h>
#include <fprnn/tasks/report/run_groups.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <set>

#include "sample_run.h"

namespace fprnn::tests {

namespace {

// Reads the subset of XML that we write: elements, attributes in double quotes, text and five
// entities.
class XmlChecker {
 public:
  explicit XmlChecker(const std::string& text) : text_(text) {}

  // What is wrong with the text, or nothing.
  std::string problem() {
    while (problem_.empty() && at_ < text_.size()) {
      if (text_[at_] == '<')
        tag();
      else
        character("text");
    }
    if (problem_.empty() && (!open_.empty() || roots_ != 1)) problem_ = "not one whole element";
    return problem_;
  }

 private:
  static bool name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == ':';
  }
  bool refuse(const std::string& what) {
    if (problem_.empty()) problem_ = what + " at " + text_.substr(at_, 40);
    return false;
  }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string name() {
    const size_t begin = at_;
    while (at_ < text_.size() && name_character(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  void character(const std::string& where) {
    const char c = text_[at_];
    const bool control = static_cast<unsigned char>(c) < 0x20 && c != '\n';
    if (control || c == '<' || c == '>' || (where == "text" && open_.empty() && c != '\n'))
      refuse("a character in " + where);
    if (c == '&') {
      const std::string entity = text_.substr(at_, text_.find(';', at_) - at_ + 1);
      if (!std::set<std::string>{"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"}.contains(entity))
        refuse("an entity");
    }
    ++at_;
  }
  void attributes() {
    std::set<std::string> seen;
    while (problem_.empty() && take(' ')) {
      const std::string key = name();
      if (key.empty() || !seen.insert(key).second || !take('=') || !take('"'))
        refuse("an attribute");
      while (problem_.empty() && at_ < text_.size() && text_[at_] != '"') character("an attribute");
      if (!take('"')) refuse("an attribute's end");
    }
  }
  void tag() {
    ++at_;
    const bool closing = take('/');
    const std::string element = name();
    if (element.empty()) refuse("a tag");
    if (closing) {
      if (open_.empty() || open_.back() != element) refuse("an end of " + element);
      if (!open_.empty()) open_.pop_back();
    } else {
      if (open_.empty()) ++roots_;
      attributes();
      if (!take('/')) open_.push_back(element);
    }
    if (!take('>')) refuse("a tag's end");
  }

  const std::string& text_;
  size_t at_ = 0;
  int roots_ = 0;
  std::vector<std::string> open_;
  std::string problem_;
};

int64_t occurrences(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// Checks what holds for every report, and returns it.
std::string sound_svg(const std::vector<RunResult>& runs) {
  const std::string svg = report_svg(runs);
  CHECK(XmlChecker(svg).problem() == "");
  std::string lower = svg;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* word : {"nan", "inf", "script", "href", "url(", "<image", "<style"})
    CHECK_MESSAGE(lower.find(word) == std::string::npos, std::string(word));
  CHECK(occurrences(lower, "http") == 1);  // the name space
  CHECK(svg.find("<rect width=\"1000\"") != std::string::npos);
  CHECK(report_svg(runs) == svg);
  return svg;
}

int64_t panels(const std::string& svg) { return occurrences(svg, "<g>"); }

}  // namespace

TEST_CASE("report svg: the checker sees what is wrong") {
  for (const std::string good : {"<a/>\n", "<a>x &amp; y<b c=\"d\" e=\"\"/></a>\n"})
    CHECK(XmlChecker(good).problem() == "");
  for (const std::string bad :
       {"", "<a>", "</a>", "<a></b>", "<a/><a/>", "<a b=c/>", "<a b=\"1\" b=\"2\"/>", "<a>&x;</a>",
        "<a>&</a>", "<a b=\"<\"/>", "<a>\x01</a>", "x", "<a", "<a b=\"", "<a>></a>"})
    CHECK_MESSAGE(XmlChecker(bad).problem() != "", bad);
}

TEST_CASE("report svg: panels are those that have figures") {
  const RunResult fp = sample_run("fp", {1, 0.9, 0.5}, true, 50);
  const RunResult mamba = sample_run("mamba", {0.1, 0, 0}, false, 50);
  CHECK(panels(sound_svg({fp})) == 6);
  CHECK(panels(sound_svg({mamba})) == 2);
  CHECK(panels(sound_svg({fp, mamba})) == 6);
  CHECK(panels(sound_svg({mamba, fp})) == 6);
  CHECK(panels(sound_svg({sample_run("fp", {1, 0.9}, true)})) == 3);
  CHECK(panels(sound_svg({sample_run("mamba", {1, 0.9}, false)})) == 1);
  CHECK(panels(sound_svg({sample_run("mamba", {}, false, 50)})) == 1);
  CHECK(panels(sound_svg({sample_run("mamba", {}, false)})) == 0);
  CHECK(panels(sound_svg({RunResult{}})) == 0);
  CHECK(panels(sound_svg({})) == 0);
}

TEST_CASE("report svg: a curve of what is right so far, where runs have the counts") {
  RunResult run = sample_run("a", {0.25, 0.1}, false, 50), other = run, bare = run;
  run.evaluation.protocols.exact = {100, 50, 0};
  other.evaluation.protocols.exact = {100, 100, 100, 30};
  const auto curves = [](const std::vector<RunResult>& runs, const std::vector<RunGroup>& groups) {
    return exact_curves({runs, groups});
  };
  const auto heights = [](const Curve& curve) {
    std::vector<double> values;
    for (const Point& point : curve.points) values.push_back(point.y);
    return values;
  };
  using Values = std::vector<double>;
  const std::vector<Curve> two = curves({run, other}, {});
  REQUIRE(two.size() == 2);
  CHECK(heights(two[0]) == Values{1, 0.5, 0, 0});
  CHECK((two[0].points[2].x == 3 && two[0].points[3].x == 32));  // 0 to the end
  CHECK(heights(two[1]) == Values{1, 1, 1, 0.3});
  CHECK(heights(curves({bare}, {}).front()).empty());
  // A group's is the median, with each seed behind it; a seed without an error at a place is right.
  RunResult third = run;
  third.evaluation.protocols.exact = {90, 80, 70, 60};
  const std::vector<RunGroup> group = {{.name = "all", .runs = {run, other, third}}};
  const std::vector<Curve> seeds = curves(medians(group), group);
  REQUIRE(seeds.size() == 4);
  CHECK((seeds[0].faint && seeds[2].faint && !seeds[3].faint));
  CHECK(heights(seeds[3]) == Values{1, 0.8, 0.7, 0.3});

  CHECK(panels(sound_svg({bare})) == 2);
  const std::string svg = sound_svg({run, bare});
  CHECK(panels(svg) == 3);
  CHECK(svg.find(">Right so far<") != std::string::npos);
  // Whatever a file holds.
  for (const int64_t wild : {int64_t{0}, int64_t{101}, std::numeric_limits<int64_t>::max()}) {
    run.evaluation.protocols.exact = {wild, wild};
    run.evaluation.lengths.back().length = wild;
    sound_svg({run});
  }
  run.evaluation.lengths.clear();
  sound_svg({run});
}

TEST_CASE("report svg: seeds stand faintly behind their median") {
  const auto run = [](const std::string& name, bool iterated) {
    return sample_run(name, {1, 0.9, 0.5}, iterated, 50);
  };
  const std::vector<RunGroup> groups = {
      {.name = "several", .runs = {run("a", true), run("b", true)}, .failed = {3}},
      {.name = "one", .runs = {run("one", true)}}};
  const std::string svg = report_svg(groups);
  CHECK(XmlChecker(svg).problem() == "");
  CHECK(panels(svg) == 6);
  CHECK(svg.find(">several (3 seeds)<") != std::string::npos);
  CHECK(svg.find(">one<") != std::string::npos);
  // Of the first two seeds in each of six panels, of the other one what was logged in two.
  CHECK(occurrences(svg, "stroke-opacity=\"0.3\"") == 2 * 6 + 2);
  CHECK(report_svg(std::vector<RunGroup>{groups[1]}) == report_svg(std::vector{run("one", true)}));
}

TEST_CASE("report svg: what stands in it") {
  const std::string svg =
      sound_svg({sample_run("first", {1, 0.9}, true, 20), sample_run("second", {0, 0}, false, 20)});
  for (const char* text :
       {">State tracking on S3<", ">first<", ">second<", ">Whole sequences right<", ">Loss<",
        ">Iterations<", ">Residual<", ">trained at 16<", ">training step<", ">sequence length<",
        "fp-mamba, 12,345 parameters; 20 steps at length 16 in 61.5 s on cpu; sequential solver, "
        "one-step gradient",
        "mamba, 12,345 parameters; 20 steps at length 16 in 61.5 s on cpu<"})
    CHECK_MESSAGE(svg.find(text) != std::string::npos, std::string(text));
}

TEST_CASE("report svg: points of every number, all right, all wrong, alike") {
  for (const double accuracy : {0.0, 1.0, 0.5})
    for (const size_t count : {1, 2, 3, 12, 50}) {
      const RunResult run = sample_run("run", std::vector<double>(count, accuracy), true, 3);
      sound_svg({run, run, run});
    }
  sound_svg({sample_run("one step", {1}, true, 1)});
}

TEST_CASE("report svg: names are escaped, and shortened") {
  RunResult run = sample_run("<b>&\"'\x01\x1B[2J\xFF]]>", {1, 0.5}, true, 5);
  run.evaluation.model = "</text><text onload=\"x\">";
  run.evaluation.task = "<!-- & -->";
  run.evaluation.settings = {{"<", "<!-- & -->"}};
  run.evaluation.caption = "<&>";
  const std::string svg = sound_svg({run});
  CHECK(svg.find(">&lt;b&gt;&amp;&quot;&apos;??[2J?]]&gt;<") != std::string::npos);
  CHECK(svg.find("onload=\"") == std::string::npos);
  std::vector<RunResult> runs(40, sample_run(std::string(100'000, '&'), {1, 0.5}, false, 5));
  CHECK(sound_svg(runs).size() < 200'000);
}

TEST_CASE("report svg: gaps break a line") {
  const double nan = std::nan("");
  RunResult run = sample_run("run", {1, 0.9, nan, 0.5, 0.4}, false);
  const std::string svg = sound_svg({run});
  const auto line = [](const std::string& text) {
    const size_t begin = text.find("d=\"", text.find("stroke-width=\"1.5\"")) + 3;
    return text.substr(begin, text.find('"', begin) - begin);
  };
  CHECK(occurrences(line(svg), "M") == 2);
  CHECK(occurrences(line(svg), "L") == 2);
}

TEST_CASE("report svg: whatever numbers a file holds") {
  const double nan = std::nan(""), most = std::numeric_limits<double>::max();
  const std::vector<double> values = {nan, 0, most, -most, 5e-324, 1e100, 1e-100, 1, HUGE_VAL};
  RunResult run = sample_run("run", {}, true);
  for (const double a : values)
    for (const double b : values)
      for (const int64_t n : {int64_t{0}, int64_t{1}, std::numeric_limits<int64_t>::max()}) {
        run.evaluation.lengths = {{.length = n,
                                   .sequences = n,
                                   .metrics = {{"whole_sequences", 0.5}},
                                   .iterations_mean = a,
                                   .iterations_max = n,
                                   .residual_max = b},
                                  {.length = 3,
                                   .metrics = {{"whole_sequences", nan}},
                                   .iterations_mean = b,
                                   .iterations_max = 1,
                                   .residual_max = a}};
        run.evaluation.train_length = run.evaluation.parameters = run.evaluation.steps = n;
        run.evaluation.train_seconds = a;
        run.metrics = {{.step = n, .loss = a, .iterations_mean = b, .residual_max = a},
                       {.step = 5, .loss = b, .iterations_mean = a, .residual_max = b}};
        sound_svg({run});
      }
}

TEST_CASE("report svg: long runs make no large files") {
  const RunResult run = sample_run("run", {1, 0.9, 0.8, 0.5}, true, 100'000);
  CHECK(sound_svg({run}).size() < 60'000);
  CHECK(sound_svg(std::vector<RunResult>(8, run)).size() < 200'000);
}

TEST_CASE("report axis: ticks are round numbers") {
  const auto ticks = [](double least, double most, int base, int count) {
    std::string text;
    for (const double tick : Axis{least, most, base}.ticks(count)) text += tick_text(tick) + " ";
    return text;
  };
  CHECK(ticks(-0.03, 1.03, 0, 6) == "0 0.2 0.4 0.6 0.8 1 ");
  CHECK(ticks(0, 100'000, 0, 6) == "0 20,000 40,000 60,000 80,000 100,000 ");
  CHECK(ticks(-3, 3, 0, 4) == "-2 0 2 ");
  CHECK(ticks(8, 24, 0, 4) == "10 15 20 ");
  CHECK(ticks(16, 512, 2, 12) == "16 32 64 128 256 512 ");
  CHECK(ticks(16, 512, 2, 3) == "64 512 ");
  CHECK(ticks(1e-6, 1e2, 10, 5) == "10⁻⁶ 10⁻⁴ 0.01 1 100 ");
  CHECK(ticks(1e-5, 1e-4, 10, 5) == "10⁻⁵ 2·10⁻⁵ 5·10⁻⁵ 10⁻⁴ ");
  CHECK(tick_text(-1234567) == "-1,234,567");
  CHECK(tick_text(123456789) == "1.23·10⁸");
}

TEST_CASE("svg: names hide no mark and no other name") {
  constexpr size_t kCount = 40;
  constexpr Box kWithin{.x = 50, .y = 40, .width = 900, .height = 300};
  std::vector<NamePlace> places;
  std::vector<std::string> names;
  for (size_t i = 0; i < kCount; ++i) {
    const auto number = static_cast<double>(i);
    // Most stand near each other, some at the edges.
    places.push_back({.mark_x = i % 5 == 0 ? 950 : 100 + 11 * number,
                      .mark_y = i % 5 == 0 ? 40 + 7 * number : 300 + 3 * std::sin(number)});
    names.push_back("name-" + std::to_string(i));
  }
  place_names(places, names, kWithin);
  const auto box_of = [&](size_t i) {
    return Box{places[i].x, places[i].y - kNameHeight, name_width(names[i]), kNameHeight};
  };
  const auto apart = [](const Box& a, const Box& b) {
    return a.x >= b.x + b.width || b.x >= a.x + a.width || a.y >= b.y + b.height ||
           b.y >= a.y + a.height;
  };
  for (size_t i = 0; i < kCount; ++i) {
    const Box box = box_of(i);
    CHECK(box.x >= kWithin.x);
    CHECK(box.x + box.width <= kWithin.x + kWithin.width);
    CHECK(box.y >= kWithin.y);
    CHECK(box.y + box.height <= kWithin.y + kWithin.height);
    for (size_t j = 0; j < kCount; ++j) {
      CHECK(apart(box, {places[j].mark_x - 5, places[j].mark_y - 5, 10, 10}));
      if (i != j) CHECK(apart(box, box_of(j)));
    }
  }
  // Alone it stands beside its mark; without room too.
  std::vector<NamePlace> one = {{.mark_x = 500, .mark_y = 200}};
  place_names(one, std::span(names).first(1), kWithin);
  CHECK(std::abs(one[0].y - kNameHeight / 2 - 200) < 1);
  CHECK(one[0].x - 500 < 15);
  place_names(one, std::span(names).first(1), {.x = 0, .y = 0, .width = 1, .height = 1});
  CHECK(one[0].x - 500 < 15);
}

}  // namespace fprnn::tests
