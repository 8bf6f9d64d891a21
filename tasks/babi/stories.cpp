#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/babi/stories.h>

#include <algorithm>
#include <set>

namespace fprnn::babi {

namespace {

constexpr const char* kTag = "bAbI";
constexpr size_t kMostWords = size_t{1} << 20;

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(' ');
  return begin == text.npos ? "" : text.substr(begin, text.find_last_not_of(' ') + 1 - begin);
}

std::string lower(std::string_view text) {
  std::string small(text);
  for (char& c : small)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return small;
}

// Its words, with `.` and `?` as words of their own.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  bool apart = true;  // the next character from the last word
  for (const char c : lower(text)) {
    const bool mark = c == '.' || c == '?';
    if (c != ' ' && (apart || mark)) words.emplace_back();
    if (c != ' ') words.back() += c;
    apart = c == ' ' || mark;
  }
  return words;
}

}  // namespace

// Reads one file.
class Stories::Reader {
 public:
  Reader(Stories& to, const File& file) : to_(to), file_(file) {}

  void read() {
    std::string_view text = file_.text;
    require<FormatError>(!text.empty(), kTag, "a file must not be empty", file_.source);
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size());
      ++line_;
      std::string_view line = text.substr(0, end);
      if (line.ends_with('\r')) line.remove_suffix(1);
      take(line);
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }

 private:
  void check(bool ok, std::string_view rule, std::string_view line) const {
    require<FormatError>(ok, kTag, std::string(rule) + ": file, line and text", file_.source, line_,
                         shortened(printable(line.substr(0, 200)), 80));
  }

  void take(std::string_view line) {
    const bool plain = std::ranges::all_of(
        line, [](char c) { return c == '\t' || static_cast<unsigned char>(c) >= ' '; });
    check(plain, "a line must have no control characters but tabs", line);
    const size_t space = std::min(line.find(' '), line.size());
    const int64_t number = number_in<int64_t>(line.substr(0, space)).value_or(0);
    check(space < line.size() && number >= 1, "a line must be a number from 1, a space and a text",
          line);
    check(number == 1 || (last_ > 0 && number > last_),
          "a line's number must be 1, which begins a story, or above the last one's", line);
    last_ = number;
    std::vector<Story>& stories = to_.parts_[static_cast<size_t>(file_.part)];
    if (number == 1) stories.push_back({.task = file_.task});
    const std::vector<std::string> fields = split(line.substr(space + 1), '\t');
    fields.size() == 1 ? statement(line, fields.front()) : question(line, fields);
  }

  void statement(std::string_view line, std::string_view text) {
    check(trimmed(text).ends_with('.') && text.find('?') == text.npos,
          "a statement must end in . and have no ?, a question have its answer after a tab", line);
    add(words_of(text));
  }

  void question(std::string_view line, const std::vector<std::string>& fields) {
    const std::string_view text = trimmed(fields[0]), answer = trimmed(fields[1]);
    check(fields.size() <= 3, "a question must have at most three fields between tabs", line);
    check(text.ends_with('?') && std::ranges::count(text, '?') == 1,
          "a question must end in its only ?", line);
    check(!answer.empty() && answer.find_first_of(" .?") == answer.npos,
          "an answer must be one word without . and ?", line);
    add(words_of(text));
    add({lower(answer)});
  }

  void add(const std::vector<std::string>& words) {
    Story& story = to_.parts_[static_cast<size_t>(file_.part)].back();
    for (const std::string& word : words) story.words.push_back(to_.id_of(word));
  }

  Stories& to_;
  const File& file_;
  int64_t line_ = 0, last_ = 0;  // counted, and the last line's own number
};

Stories::Stories(std::span<const File> files) {
  std::set<std::pair<int64_t, Part>> there;
  for (const File& file : files) {
    Reader(*this, file).read();
    there.insert({file.task, file.part});
  }
  // The last tenth of train, where it is all that there is.
  std::vector<Story>& train = parts_[static_cast<size_t>(Part::train)];
  std::vector<Story>& valid = parts_[static_cast<size_t>(Part::valid)];
  for (const File& file : files) {
    if (file.part != Part::train || there.contains({file.task, Part::valid})) continue;
    const auto of_task = [&](const Story& story) { return story.task == file.task; };
    const auto begin = std::ranges::find_if(train, of_task);
    const auto end = std::find_if_not(begin, train.end(), of_task);
    require<FormatError>(end - begin >= 2, kTag,
                         "without a file of valid there must be two stories of train", file.source);
    const auto cut = end - std::max<int64_t>(1, (end - begin) / 10);
    valid.insert(valid.end(), cut, end);
    train.erase(cut, end);
  }
  std::ranges::stable_sort(valid, {}, &Story::task);
  require<FormatError>(ids_.contains("?"), kTag, "there must be questions");
}

std::vector<int64_t> Stories::tasks() const {
  std::set<int64_t> tasks;
  for (const auto& stories : parts_)
    for (const Story& story : stories) tasks.insert(story.task);
  return {tasks.begin(), tasks.end()};
}

int32_t Stories::id_of(const std::string& word) {
  const auto [at, added] = ids_.emplace(word, static_cast<int32_t>(vocabulary_.size()));
  if (added) vocabulary_.push_back(word);
  require<FormatError>(vocabulary_.size() <= kMostWords, kTag,
                       "there must be at most 2^20 different words");
  return at->second;
}

}  // namespace fprnn::babi
