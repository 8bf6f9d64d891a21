// The text files of bAbI (Weston et al., 2015). A folder holds one for each task and part:
//   qaN_train.txt, qaN_valid.txt, qaN_test.txt    or with a name, qaN_NAME_train.txt
// N is the task, 1 to 20. tasks/babi/stories.h says what the lines are.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fprnn::babi {

// The stories to train on, to choose weights by and to test on.
enum class Part { train, valid, test };
// All of them, in order.
inline constexpr std::array kParts = {Part::train, Part::valid, Part::test};
std::string_view name_of(Part part);

// Tasks are numbered 1 to kTasks.
inline constexpr int64_t kTasks = 20;
inline constexpr int64_t kMostBytes = int64_t{1} << 28;  // of a file

// One file's text.
struct File {
  int64_t task = 0;
  Part part = Part::train;
  std::string source = {};  // its path, or what else shall name it in messages
  std::string text = {};
};

// Those of the tasks, or of all that are there for none, by part and then by task. UsageError: there
// are none, or a task lacks its train or its test file or has one twice; valid may be missing.
// ValueError: a task outside 1 to 20, or one twice. FileError: unreadable, or above kMostBytes.
std::vector<File> read_folder(const std::string& folder, std::span<const int64_t> tasks = {});

// Makes the folder, which appears with all files or not at all; sources are not used. UsageError: it
// is there and not empty. FileError: it cannot be made.
void write_folder(const std::string& folder, std::span<const File> files);

// ValueError: one outside 1 to 20, or twice.
void check_tasks(std::span<const int64_t> tasks);

}  // namespace fprnn::babi
