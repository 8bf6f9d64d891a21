#include "rows.h"

#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/run/seeds.h>

#include <algorithm>
#include <filesystem>
#include <span>

namespace fprnn::paper {

namespace {

constexpr int64_t kLongestLine = 1 << 12;
constexpr std::string_view kScales[] = {"gpu", "cpu", "test"};

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words = split(text, ' ');
  std::erase(words, "");
  return words;
}

std::string joined(std::span<const std::string> words) {
  return fmt::format("{}", fmt::join(words, " "));
}

// Folders and files are named by it.
bool is_label(const std::string& text) {
  return !text.empty() && text.find_first_not_of(
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              "abcdefghijklmnopqrstuvwxyz0123456789.-+") == std::string::npos;
}

// Takes the lines of one file.
class Reader {
 public:
  Reader(const std::string& path, const std::string& scale) : path_(path) {
    row_.name = std::filesystem::path(path).filename();
    row_.scale = scale;
  }

  void take(std::string_view line) {
    ++number_;
    std::vector<std::string> words = words_of(line.substr(0, line.find('#')));
    if (words.empty()) return;
    const bool of_scale = std::ranges::find(kScales, words.front()) != std::end(kScales);
    const std::string scale = of_scale ? words.front() : row_.scale;
    if (of_scale) words.erase(words.begin());
    check(!words.empty(), "a scale must have a line");
    const std::string kind = words.front();
    words.erase(words.begin());
    if (scale == row_.scale) take(kind, words);
  }

  Row row() {
    for (Entry& entry : row_.entries)
      if (entry.of.empty()) entry.options = each_once(options_ + " " + entry.options);
    return std::move(row_);
  }

 private:
  void check(bool ok, std::string_view rule) const {
    require<FormatError>(ok, "row", rule, fmt::format("{}:{}", path_, number_));
  }

  void take(const std::string& kind, std::span<const std::string> words) {
    if (kind == "seeds") {
      check(words.size() == 1, "seeds must be one list: file and line");
      row_.seeds = seeds_named(words[0]);
    } else if (kind == "options") {
      options_ += " " + joined(words);
    } else if (kind == "train" || kind == "ask") {
      add(kind == "ask", words);
    } else {
      check(kind == "paper",
            "a line must be of seeds, options, train, ask or paper: file and line");
      check(words.size() >= 2, "paper must have a label and a text: file and line");
      row_.paper[words[0]] = joined(words.subspan(1));
    }
  }

  void add(bool ask, std::span<const std::string> words) {
    check(words.size() >= 2 && is_label(words[0]),
          "a run must have a label of letters, digits, . - and + and a program: file and line");
    check(row_.entry(words[0]) == nullptr, "a label must stand there once: file and line");
    Entry entry{.label = words[0], .program = words[1], .options = joined(words.subspan(2))};
    if (ask) {
      const Entry* trained = row_.entry(words[1]);
      check(trained != nullptr && trained->of.empty(),
            "an evaluation must stand behind its training: file and line");
      entry.of = words[1];
      entry.program = trained->program;
      entry.options = each_once(entry.options);
    }
    row_.entries.push_back(std::move(entry));
  }

  std::string path_, options_;
  int64_t number_ = 0;
  Row row_;
};

}  // namespace

const Entry* Row::entry(std::string_view label) const {
  const auto found = std::ranges::find(entries, label, &Entry::label);
  return found == entries.end() ? nullptr : &*found;
}

std::string Row::command(const Entry& entry, uint64_t seed) const {
  if (entry.of.empty()) return fmt::format("{} {} --seed {}", entry.program, entry.options, seed);
  return fmt::format("{}; {} --evaluate {}:{} {}", command(*this->entry(entry.of), seed),
                     entry.program, entry.of, seed, entry.options);
}

Row read_row(const std::string& path, const std::string& scale) {
  require<ValueError>(std::ranges::find(kScales, scale) != std::end(kScales), "scale",
                      "must be gpu, cpu or test", scale);
  Reader reader(path, scale);
  for_each_line(path, kLongestLine, [&](std::string_view line) { reader.take(line); });
  return reader.row();
}

std::string each_once(const std::string& options) {
  std::vector<std::pair<std::string, std::string>> named;
  for (const std::string& word : words_of(options)) {
    if (!word.starts_with("--")) {
      require<FormatError>(!named.empty(), "options", "must begin with an option", options);
      named.back().second += " " + word;
      continue;
    }
    named.emplace_back(word, "");
  }
  std::vector<std::pair<std::string, std::string>> once;
  for (auto& [option, value] : named) {
    const auto found = std::ranges::find(once, option, &std::pair<std::string, std::string>::first);
    if (found == once.end())
      once.emplace_back(option, value);
    else
      found->second = value;
  }
  std::string text;
  for (const auto& [option, value] : once) text += (text.empty() ? "" : " ") + option + value;
  return text;
}

std::string value_of(const std::string& command, std::string_view option) {
  const std::vector<std::string> words = words_of(command);
  for (size_t i = words.size(); i-- > 1;)
    if (words[i - 1] == fmt::format("--{}", option)) return words[i];
  return "";
}

}  // namespace fprnn::paper
