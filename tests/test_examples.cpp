// What people and programs see of a task: the names of its tokens and the rows of its training.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/arithmetic.h>
#include <fprnn/tasks/recall_tasks.h>
#include <fprnn/tasks/run/examples.h>
#include <fprnn/tasks/run/predict.h>
#include <fprnn/tasks/string_copying.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "named_model.h"
#include "refused.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

std::vector<std::unique_ptr<Task>> tasks() {
  std::vector<std::unique_ptr<Task>> all;
  all.push_back(std::make_unique<WordProblem>(group_named("S3")));
  all.push_back(
      std::make_unique<StringCopying>(CopyingOptions{.letters = 8, .shortest = 3, .longest = 5}));
  all.push_back(std::make_unique<Mqar>(Mqar::Options{.vocabulary = 16, .keys = {{1, {2}}}}));
  for (const char* variant : {"brackets", "plain", "parity", "even-pairs", "cycle"})
    all.push_back(std::make_unique<Arithmetic>(ArithmeticOptions{.variant = variant}));
  return all;
}

std::vector<std::string> dumped(const Task& task, const TrainOptions& options, int64_t examples) {
  std::vector<std::string> lines;
  dump_examples(task, options, examples, [&](const std::string& line) { lines.push_back(line); });
  return lines;
}

}  // namespace

TEST_CASE("examples: every token has a name of its own, a word") {
  for (const auto& task : tasks()) {
    std::set<std::string> names;
    for (int32_t token = 0; token < task->vocabulary(); ++token) {
      const std::string name = task->name_of(token);
      CHECK(!name.empty());
      CHECK(name.find_first_of(" \t\r\n") == std::string::npos);
      CHECK_MESSAGE(names.insert(name).second, name);
    }
  }
}

TEST_CASE("examples: rows as they are trained on, step after step") {
  for (const auto& task : tasks()) {
    const TrainOptions options{.batch_size = 3, .accumulate = 2, .length = 13, .seed = 5};
    const std::vector<std::string> lines = dumped(*task, options, 8);
    CHECK(lines == dumped(*task, options, 8));
    CHECK(std::vector(lines.begin(), lines.begin() + 5) == dumped(*task, options, 5));
    CHECK(lines != dumped(*task, {.batch_size = 3, .accumulate = 2, .length = 13, .seed = 6}, 8));
    REQUIRE(lines.size() == 8);
    for (int64_t i = 0; i < 8; ++i) {
      const auto json = nlohmann::json::parse(lines[i]);
      CHECK(json["step"] == i / 6 + 1);
      CHECK(json["batch"] == i / 3 % 2);
      CHECK(json["row"] == i % 3);
      const Batch batch = task->training_batch(Context::cpu(), 5, i / 3, 3, 13);
      const int64_t T = batch.tokens.size(1), begin = i % 3 * T;
      const auto row = [&](const auto& tensor) {
        const auto all = tensor.to_vector();
        return std::vector(all.begin() + begin, all.begin() + begin + T);
      };
      CHECK(json["ids"].get<std::vector<int32_t>>() == row(batch.tokens));
      CHECK(json["targets"].get<std::vector<int32_t>>() == row(batch.targets));
      CHECK(json["mask"].get<std::vector<real>>() == row(batch.mask));
      std::string text;
      for (const int32_t token : row(batch.tokens)) text += " " + task->name_of(token);
      CHECK(" " + json["text"].get<std::string>() == text);
    }
  }
}

TEST_CASE("examples: a curriculum's rows grow") {
  const WordProblem task(group_named("Z2"));
  const TrainOptions options{
      .steps = 4, .batch_size = 1, .length = 8, .curriculum = {.from = 2, .share = 1}};
  std::vector<size_t> lengths;
  for (const std::string& line : dumped(task, options, 4))
    lengths.push_back(nlohmann::json::parse(line)["ids"].size());
  CHECK(lengths == std::vector<size_t>{3, 4, 6, 7});
}

TEST_CASE("examples: a line of words or numbers as tokens") {
  const WordProblem task(group_named("S3"));
  const Words words(task);
  const std::vector<int32_t> wanted = {6, 1, 5};
  for (const char* line : {"BOS 1 5", "  BOS\t1  5 \r", "[6, 1, 5]", " [6,1,5] ", "[ 6 1 , 5]"})
    CHECK(words.tokens(line, 1) == wanted);
  CHECK(Words(Arithmetic({.variant = "plain"})).tokens("0 + 4 =", 1) ==
        std::vector<int32_t>{5, 1, 9, 4});
  for (const char* line : {"", " ", "[]", "\r"})
    check_refused<UsageError>("a word in each line: line, got 7", [&] { words.tokens(line, 7); });
  for (const char* line : {"BOS 6", "bos", "1,2", "[7]", "[-1]", "[BOS]", "[1", "1]", "1 x 2",
                           "[2147483648]", "1\x1B"})
    check_refused<UsageError>("as --dump prints them: line and word, got 12 and",
                              [&] { words.tokens(line, 12); });
}

TEST_CASE("examples: what a model answers, line by line") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"));
  Rng rng{.seed = 2};
  const auto model =
      named_model({{"d_model", "8"}, {"d_state", "4"}}, task.vocabulary(), {context, rng});
  scramble(*model);
  std::FILE* lines = std::tmpfile();
  REQUIRE(lines != nullptr);
  std::fputs("BOS 1 5 3\n[6, 2]\nBOS 1 5 3", lines);
  std::rewind(lines);
  std::vector<nlohmann::json> said;
  const auto take = [&](const std::string& line) { said.push_back(nlohmann::json::parse(line)); };
  predict(*model, task, context, lines, take);
  REQUIRE(said.size() == 3);
  CHECK(said[1]["line"] == 2);
  CHECK(said[1]["ids"] == std::vector<int>{6, 2});
  said[2]["line"] = 1;
  CHECK(said[2] == said[0]);
  CHECK(said[0]["iterations"] > 0);

  NoGrad tape(context);
  const std::vector<int32_t> tokens = {6, 1, 5, 3};
  const Var logits = model->forward(tape, IntTensor(context, {1, 4}, tokens));
  const std::vector<int32_t> answers = argmax(logits.value()).to_vector();
  const std::vector<real> values = logits.value().to_vector();
  CHECK(said[0]["answer_ids"] == answers);
  for (int t = 0; t < 4; ++t) {
    double sum = 0;
    for (int v = 0; v < 7; ++v) sum += std::exp(double(values[7 * t + v]));
    const double probability = std::exp(double(values[7 * t + answers[t]])) / sum;
    CHECK(std::abs(said[0]["probabilities"][t].get<double>() - probability) < 2e-6);
    CHECK(said[0]["answers"][t] == task.name_of(answers[t]));
  }

  // Lines before a malformed one are answered, and it is named.
  std::rewind(lines);
  std::fputs("BOS 1 5 x\n", lines);
  std::rewind(lines);
  check_refused<UsageError>("got 1 and 'x'", [&] { predict(*model, task, context, lines, take); });
  CHECK(said.size() == 3);
  std::fclose(lines);
}

TEST_CASE("examples: text that a person can read") {
  const auto text_of = [](const Task& task, int64_t length) {
    const Batch batch = task.sample(Context::cpu(), {.seed = 3}, 1, length);
    std::string text;
    for (const int32_t token : batch.tokens.to_vector()) text += task.name_of(token);
    return text;
  };
  const std::string copied =
      text_of(StringCopying({.letters = 8, .shortest = 4, .longest = 4}), 11);
  CHECK(copied.front() == '$');
  CHECK(copied.substr(1, 4) == copied.substr(6, 4));
  CHECK(copied[5] == '|');
  CHECK(copied[10] == '.');
  CHECK(text_of(WordProblem(group_named("Z7")), 3).starts_with("BOS"));
  const std::string brackets = text_of(Arithmetic({.variant = "brackets"}), 12);
  CHECK(std::ranges::count(brackets, '(') == std::ranges::count(brackets, ')'));
  CHECK(brackets.find('=') != std::string::npos);
}

}  // namespace fprnn::tests
