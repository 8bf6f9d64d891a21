// The rows of the paper's runs, docs/paper/rows/N: what is trained and evaluated, as data. A line is
//   [SCALE] seeds LIST                     0-7 or 0,2: of each training and evaluation
//   [SCALE] options OPTION..               of each training, before its own
//   [SCALE] train LABEL PROGRAM OPTION..   a training
//   [SCALE] ask LABEL OF OPTION..          the model that the training OF made, evaluated once more
//   paper LABEL TEXT                       what the paper says of it
// and # begins a remark. A line with a scale (gpu, cpu, test) is of that scale alone; of two values of
// an option the later one counts.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fprnn::paper {

// A training, or the evaluation of one.
struct Entry {
  std::string label;
  std::string of = {};  // the training's label; empty: this is one
  std::string program, options;
};

struct Row {
  std::string name;   // of its file
  std::string scale;  // whose lines it was read for
  std::vector<uint64_t> seeds = {};
  std::vector<Entry> entries = {};             // in the file's order
  std::map<std::string, std::string> paper{};  // the paper's figures, by label

  const Entry* entry(std::string_view label) const;  // null: there is none
  // What a run of an entry is known by: the program and its arguments; of an evaluation its training's
  // command and its own, "copying --steps 9 --seed 1; copying --evaluate A:1 --tolerance 0.1".
  std::string command(const Entry& entry, uint64_t seed) const;
};

// FileError, FormatError: the file is unreadable or has another line, with its number; a label stands
// there twice at one scale, or an evaluation without its training before it. ValueError: seeds.
Row read_row(const std::string& path, const std::string& scale);

// The options with each of them once, the last one said, in the order of their first places:
// "--steps 9 --free --lr 1" of "--steps 5 --free --lr 1 --steps 9".
std::string each_once(const std::string& options);
// The value of an option of a command, the last one, or nothing.
std::string value_of(const std::string& command, std::string_view option);

}  // namespace fprnn::paper
