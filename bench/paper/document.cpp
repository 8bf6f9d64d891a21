#include "document.h"

#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>

#include <algorithm>

#include "both.h"
#include "charts.h"
#include "tables.h"

namespace fprnn::paper {

namespace {

constexpr std::string_view kEnd = "<!-- end -->";

// Between the marks of a comment, or none where the line is no such comment.
std::vector<std::string> marker_words(const std::string& line) {
  constexpr std::string_view kOpen = "<!-- ", kClose = " -->";
  if (!line.starts_with(kOpen) || !line.ends_with(kClose) || line == kEnd) return {};
  std::vector<std::string> words = split(
      std::string_view(line).substr(kOpen.size(), line.size() - kOpen.size() - kClose.size()), ' ');
  std::erase(words, "");
  const bool known =
      !words.empty() && (words[0] == "table" || words[0] == "chart" || words[0] == "both");
  return known ? words : std::vector<std::string>();
}

class Maker {
 public:
  Maker(const std::string& folder, const std::vector<Row>& rows, const std::vector<Run>& runs)
      : folder_(folder), rows_(rows), runs_(runs) {}

  Document make(const std::string& text) {
    std::vector<std::string> lines = split(text, '\n');
    if (lines.back().empty()) lines.pop_back();
    for (size_t i = 0; i < lines.size(); ++i) {
      if (lines[i].starts_with('#')) heading_ = lines[i];
      made_.text += lines[i] + "\n";
      const std::vector<std::string> words = marker_words(lines[i]);
      if (words.empty()) continue;
      const size_t begin = i;
      while (++i < lines.size() && lines[i] != kEnd)
        require<FormatError>(marker_words(lines[i]).empty(), "paper",
                             "a marker must have an end: line", begin + 1);
      require<FormatError>(i < lines.size(), "paper", "a marker must have an end: line", begin + 1);
      made_.text += included(words) + std::string(kEnd) + "\n";
    }
    return std::move(made_);
  }

 private:
  // What is lacking, which is noted beneath its heading.
  std::string noted(const Query& query) {
    const std::string lack = lacking(query, rows_, runs_);
    const std::string line = heading_.substr(heading_.find_first_not_of("# ")) + ": " + lack;
    if (!lack.empty() && std::ranges::find(made_.lacking, line) == made_.lacking.end())
      made_.lacking.push_back(line);
    return lack;
  }

  std::string included(std::vector<std::string> words) {
    if (words[0] == "both") {
      const Both both = both_of({words.begin() + 1, words.end()});
      noted(both.first);
      noted(both.second);
      return both_text(both, rows_, runs_);
    }
    const bool chart = words[0] == "chart";
    require<FormatError>(!chart || words.size() > 1, "paper", "a chart must have a name");
    const std::string name = chart ? words[1] : "";
    words.erase(words.begin(), words.begin() + (chart ? 2 : 1));
    const Query query = query_of(words);
    const std::string lack = noted(query);
    if (!chart) return table_of(query, rows_, runs_);
    const std::string svg = chart_of(query, rows_, runs_);
    if (svg.empty()) return lack;
    made_.charts[name + ".svg"] = svg;
    return fmt::format("![{}]({}/{}.svg)\n{}", query.title.empty() ? name : query.title, folder_,
                       name, lack.empty() ? "" : "\n" + lack);
  }

  const std::string& folder_;
  const std::vector<Row>& rows_;
  const std::vector<Run>& runs_;
  std::string heading_ = "(no heading)";
  Document made_;
};

}  // namespace

Document made_document(const std::string& text, const std::string& folder,
                       const std::vector<Row>& rows, const std::vector<Run>& runs) {
  return Maker(folder, rows, runs).make(text);
}

std::string without_version(const std::string& svg) {
  const size_t begin = svg.find("<desc>"), end = svg.find("</desc>");
  return begin == std::string::npos || end == std::string::npos
             ? svg
             : svg.substr(0, begin) + svg.substr(end);
}

}  // namespace fprnn::paper
