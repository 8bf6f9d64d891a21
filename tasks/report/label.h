// Names for people. They come from folders and files, so that anything may stand in them.
#pragma once

#include <fprnn/core/text.h>
#include <fprnn/tasks/report/record.h>

#include <span>
#include <string_view>

namespace fprnn {

// The code points of printable text.
int64_t width(std::string_view text);
// At most so many code points of printable text: from a longer one the middle is left out.
std::string shortened(const std::string& text, int64_t most);

// A name for each run: its folder's, or its model's if it has none, without what all of them begin
// with and, if two are alike then, numbered.
std::vector<std::string> run_labels(std::span<const RunRecord> runs, int64_t most);

// Which of a task's problems it is, by the task's own settings: texts, and numbers with their keys,
// as in "S3" or "mqar, keys 4". Empty without settings.
std::string problem_of(const KeyTexts& settings);

}  // namespace fprnn
