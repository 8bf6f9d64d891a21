// A story of bAbI's form while it is written.
#pragma once

#include <fprnn/tasks/draws.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

namespace fprnn::babi {

using Lines = std::vector<int64_t>;  // numbers of lines from which something follows

class Telling {
 public:
  explicit Telling(Draws& draws) : draws_(draws) {}

  // Writes a line, its first letter a capital, and returns its number.
  int64_t say(std::string sentence) {
    if (sentence[0] >= 'a' && sentence[0] <= 'z') sentence[0] += 'A' - 'a';
    return write(sentence + ".");
  }
  void ask(const std::string& question, const std::string& answer, Lines because) {
    std::ranges::sort(because);
    because.erase(std::unique(because.begin(), because.end()), because.end());
    std::string numbers;
    for (const int64_t line : because)
      numbers += (numbers.empty() ? "" : " ") + std::to_string(line);
    write(question + "? \t" + answer + "\t" + numbers);
  }
  const std::string& text() const { return text_; }

  // Uniform over 0 .. n - 1.
  size_t below(size_t n) { return static_cast<size_t>(draws_.below(static_cast<int64_t>(n))); }
  // True once in n times, at random.
  bool one_in(size_t n) { return below(n) == 0; }
  // Any of them, all alike.
  template <class All>
  const auto& one_of(const All& all) {
    return all[below(std::size(all))];
  }
  // All orders are alike.
  template <class T>
  void shuffle(std::vector<T>& all) {
    for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[below(i)]);
  }

 private:
  int64_t write(const std::string& line) {
    text_ += std::to_string(++lines_) + " " + line + "\n";
    return lines_;
  }

  Draws& draws_;
  std::string text_;
  int64_t lines_ = 0;
};

// A story of tasks 1, 6, 11 and 13; of 2, 3, 7 and 8; of 15; of 19.
void tell_of_people(int64_t task, Telling& telling);
void tell_of_things(int64_t task, Telling& telling);
void tell_of_fears(Telling& telling);
void tell_of_paths(Telling& telling);

}  // namespace fprnn::babi
