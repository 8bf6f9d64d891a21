// Batches of mod_arithmetic as a reader sees them: a question and its answer a row.
#pragma once

#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/arithmetic.h>

#include <algorithm>
#include <string>
#include <vector>

namespace fprnn::tests {

inline const std::vector<std::string> kVariants = {"brackets", "plain", "parity", "even-pairs",
                                                   "cycle"};

// A row as a reader sees it.
struct Question {
  std::string text;   // up to the supervised position, a character a token
  size_t length = 0;  // of the row
  int answer = 0;     // from 0
  bool formed = true;
};

// Characters of ids; '_' is pad.
inline std::string alphabet(const std::string& variant) {
  if (variant == "brackets") return "01234+-*()=_";
  if (variant == "plain") return "_+-*=01234";
  return variant == "cycle" ? "_.+-01234" : "_12";
}

// Of one supervised position, in row b of the batch; the answer's place and what follows are blank.
inline Question question(const std::string& variant, const std::vector<int32_t>& tokens,
                         const std::vector<int32_t>& targets, const std::vector<real>& mask,
                         int64_t T, int64_t b) {
  const std::string letters = alphabet(variant);
  const size_t begin = b * T, end = begin + T;
  const size_t supervised = std::find(&mask[begin], &mask[begin] + T, real(1)) - mask.data();
  Question q;
  q.formed = supervised < end - 1;
  if (!q.formed) return q;
  for (size_t i = begin; i < end; ++i) {
    const char letter = letters.at(tokens[i]);
    if (i <= supervised) q.text += letter;
    q.formed = q.formed && (letter == '_') == (i > supervised);
    if (i != supervised) q.formed = q.formed && mask[i] == 0 && letters.at(targets[i]) == '_';
  }
  q.length = q.text.size() + (variant == "brackets" ? 2 : 1);
  const bool bits = variant == "parity" || variant == "even-pairs";
  q.answer = bits ? targets[supervised] - 1 : letters.at(targets[supervised]) - '0';
  if (variant == "brackets" || variant == "plain") q.formed = q.formed && q.text.back() == '=';
  q.formed = q.formed && q.answer >= 0 && q.answer < (bits ? 2 : 5);
  return q;
}

inline std::vector<Question> questions(const std::string& variant, const Batch& batch) {
  const auto tokens = batch.tokens.to_vector(), targets = batch.targets.to_vector();
  const auto mask = batch.mask.to_vector();
  const int64_t T = batch.tokens.size(1);
  std::vector<Question> all;
  for (int64_t b = 0; b < batch.tokens.size(0); ++b)
    all.push_back(question(variant, tokens, targets, mask, T, b));
  REQUIRE(std::ranges::count(all, false, &Question::formed) == 0);
  return all;
}

inline Arithmetic task_of(const std::string& variant, bool times = true, int64_t test_from = 0) {
  return Arithmetic({.variant = variant, .times = times, .test_from = test_from});
}

}  // namespace fprnn::tests
