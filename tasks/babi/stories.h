// Stories with questions and answers as tokens. A line of a file is a number, a space and a text; the
// number 1 begins a story, and within one numbers grow:
//   1 Mary moved to the bathroom.
//   2 Where is Mary? <TAB>bathroom<TAB>1
// A statement ends in `.` and holds no `?`. A question ends in its only `?`; after a tab follows the
// answer, one word, and perhaps after another tab the numbers of the lines that support it, which are
// not read. Tokens are lower case, `.` and `?` apart; the answer is one token with its commas.
#pragma once

#include <fprnn/tasks/babi/files.h>

#include <map>

namespace fprnn::babi {

// The tokens <pad> and <eos>.
inline constexpr int32_t kPad = 0, kEos = 1;

// A story in tokens.
struct Story {
  int64_t task = 0;                 // 1 to 20
  std::vector<int32_t> words = {};  // an answer after each `?`
};

class Stories {
 public:
  // Each file's stories, in order. A task without a file of valid has for it the last tenth of its
  // stories of train, one at least. FormatError, naming file and line: a line that is none of the
  // above, or a first one that does not begin a story; naming the file: no lines; one story that
  // is to be train and valid; above 2^20 different words.
  explicit Stories(std::span<const File> files);

  // The stories of a part, task after task.
  const std::vector<Story>& of(Part part) const { return parts_[static_cast<size_t>(part)]; }
  // <pad>, <eos> and all words of all parts in order of appearance; an id is a place in it.
  const std::vector<std::string>& vocabulary() const { return vocabulary_; }
  // The token `?`.
  int32_t question_mark() const { return ids_.at("?"); }
  std::vector<int64_t> tasks() const;  // those that have stories, in order

 private:
  class Reader;
  int32_t id_of(const std::string& word);

  std::array<std::vector<Story>, kParts.size()> parts_;
  std::vector<std::string> vocabulary_ = {"<pad>", "<eos>"};
  std::map<std::string, int32_t, std::less<>> ids_;  // of words, not of the two marks
};

}  // namespace fprnn::babi
