// What a model answers to lines of words, each the name of a token (Task::name_of).
#pragma once

#include <fprnn/models/sequence_model.h>
#include <fprnn/tasks/task.h>

#include <cstdio>
#include <functional>
#include <map>
#include <optional>
#include <span>

namespace fprnn {

// The tokens of a line: its words between white space, or their numbers as a list, "[6, 1, 2]".
// UsageError, with the line's number: there is none, or one that is no token of the task.
class Words {
 public:
  explicit Words(const Task& task);
  // Of a line, by its number.
  std::vector<int32_t> tokens(std::string_view line, int64_t number) const;

 private:
  std::optional<int32_t> token(std::string_view word, bool is_number) const;

  std::map<std::string, int32_t, std::less<>> token_of_;
};

// {"line", "ids", "answers", "answer_ids", "probabilities", "iterations", "unconverged"} as JSON: at
// each position the most probable token and its probability, null where the logits are not finite,
// and how the model's fixed points were solved. What was read before does not matter. MemoryError.
std::string prediction(SequenceModel& model, const Task& task, const Context& context,
                       std::span<const int32_t> tokens, int64_t number);

// Answers each line of a stream as soon as it is read, one of 16 MiB at most; `say` takes the answers.
// UsageError: as above, or a longer line. FileError: the stream cannot be read.
void predict(SequenceModel& model, const Task& task, const Context& context, std::FILE* lines,
             const std::function<void(const std::string& line)>& say);

}  // namespace fprnn
