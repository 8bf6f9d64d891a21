// Answers questions of bAbI's form by reading the lines before them. It knows the English of the
// stories and nothing of who wrote them.
#pragma once

#include <string>
#include <vector>

namespace fprnn::tests {

// A line of a file, taken apart.
struct StoryLine {
  int number = 0;
  std::string text;
  std::string answer = {};        // of a question; empty for a statement
  std::vector<int> because = {};  // lines
  bool asks() const { return !answer.empty(); }
};
std::vector<std::vector<StoryLine>> stories_in(const std::string& text);

// "?" where the statements do not tell, or tell several.
std::string answer_to(const std::string& question, const std::vector<std::string>& statements);

}  // namespace fprnn::tests
