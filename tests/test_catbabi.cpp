// catbAbI: stories as files, tokens and lanes, and the simulator that writes them.
#include <doctest/doctest.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/babi/lanes.h>
#include <fprnn/tasks/babi/simulator.h>

#include <map>
#include <numeric>
#include <set>

#include "babi_replay.h"
#include "context.h"
#include "folder.h"
#include "refused.h"

namespace fprnn::tests {

using namespace babi;

namespace {

const std::string kSmall =
    "1 Mary moved to the Bathroom.\n"
    "2 Where is Mary? \tbathroom\t1\n"
    "1 John took the milk there .\n"
    "2 What is John carrying?\tMilk,Apple\n"
    "3 John left.\n";

std::vector<File> small_files(const std::string& train = kSmall) {
  return {{1, Part::train, "qa1_train.txt", train},
          {1, Part::valid, "qa1_valid.txt", kSmall},
          {1, Part::test, "qa1_test.txt", kSmall}};
}

// The words of a story as text: marks stand after the word before them.
std::string text_of(const Stories& stories, const Story& story) {
  std::string text;
  for (const int32_t id : story.words) {
    const std::string& word = stories.vocabulary()[id];
    text += (text.empty() || word == "." || word == "?" ? "" : " ") + word;
  }
  return text;
}

SimulatorOptions few(int64_t stories, uint64_t seed = 0) {
  return {.stories = stories, .seed = seed};
}

std::map<std::pair<int64_t, Part>, std::string> texts_of(std::span<const File> files) {
  std::map<std::pair<int64_t, Part>, std::string> texts;
  for (const File& file : files) texts[{file.task, file.part}] = file.text;
  return texts;
}

}  // namespace

TEST_CASE("catbabi: a reader finds every answer, in all lines and in those named with it") {
  for (const uint64_t seed : {0, 7})
    for (const File& file : simulated(few(100, seed))) {
      CAPTURE(file.task);
      for (const std::vector<StoryLine>& story : stories_in(file.text)) {
        std::vector<std::string> said;
        std::map<int, std::string> by_number;
        for (const StoryLine& line : story) {
          if (!line.asks()) {
            said.push_back(line.text);
            by_number[line.number] = line.text;
            continue;
          }
          INFO(line.number << " " << line.text);
          REQUIRE(answer_to(line.text, said) == line.answer);
          std::vector<std::string> needed;
          for (const int number : line.because) {
            REQUIRE(by_number.contains(number));
            needed.push_back(by_number[number]);
          }
          REQUIRE(answer_to(line.text, needed) == line.answer);
        }
        REQUIRE(!said.empty());
      }
    }
}

TEST_CASE("catbabi: simulated answers are neither constant nor rare") {
  const std::map<int64_t, std::pair<size_t, double>> wanted = {
      {1, {6, .25}}, {2, {6, .25}},  {3, {6, .25}},  {6, {2, .56}},  {7, {4, .7}},
      {8, {10, .7}}, {11, {6, .25}}, {13, {6, .25}}, {15, {4, .35}}, {19, {10, .2}}};
  for (const File& file : simulated(few(400))) {
    if (file.part != Part::train) continue;
    CAPTURE(file.task);
    std::map<std::string, int> times;
    int all = 0, most = 0;
    for (const auto& story : stories_in(file.text))
      for (const StoryLine& line : story)
        if (line.asks()) most = std::max(most, ++times[line.answer]), ++all;
    CHECK(times.size() >= wanted.at(file.task).first);
    CHECK(most < wanted.at(file.task).second * all);
  }
}

TEST_CASE("catbabi: simulated parts share no story, and are a function of their options") {
  const std::vector<File> files = simulated(few(200));
  CHECK(files.size() == 30);
  std::set<std::string> told;
  std::map<Part, size_t> count;
  for (const File& file : files)
    for (const auto& story : stories_in(file.text)) {
      std::string text;
      for (const StoryLine& line : story) text += line.text + line.answer;
      CHECK(told.insert(text).second);
      ++count[file.part];
    }
  CHECK(count ==
        std::map<Part, size_t>{{Part::train, 2000}, {Part::valid, 200}, {Part::test, 200}});
  CHECK(texts_of(files) == texts_of(simulated(few(200))));
  CHECK(texts_of(files) != texts_of(simulated(few(200, 1))));
  // A task's stories do not depend on which others are there.
  CHECK(texts_of(simulated({.tasks = {7}, .stories = 200})).at({7, Part::test}) ==
        texts_of(files).at({7, Part::test}));
  CHECK_THROWS_AS(simulated({.tasks = {4}}), ValueError);
  CHECK_THROWS_AS(simulated({.tasks = {1, 1}}), ValueError);
  for (const int64_t stories : {-1, 0, 100'001})
    CHECK_THROWS_AS(simulated(few(stories)), ValueError);
}

TEST_CASE("catbabi: joined tokens give the text back; an answer is one token") {
  const Stories stories{small_files()};
  const std::vector<Story>& train = stories.of(Part::train);
  REQUIRE(train.size() == 2);
  CHECK(text_of(stories, train[0]) == "mary moved to the bathroom. where is mary? bathroom");
  CHECK(text_of(stories, train[1]) ==
        "john took the milk there. what is john carrying? milk,apple john left.");
  const std::vector<std::string> all = {
      "<pad>", "<eos>", "mary", "moved", "to",    "the",  "bathroom", ".",          "where", "is",
      "?",     "john",  "took", "milk",  "there", "what", "carrying", "milk,apple", "left"};
  CHECK(stories.vocabulary() == all);
  CHECK(stories.question_mark() == 10);
  for (const File& file : simulated(few(20))) {
    const Stories read{
        std::vector<File>{file, {.task = file.task, .part = Part::valid, .text = kSmall}}};
    std::vector<std::string> lines;
    size_t at = 0;
    if (file.part == Part::valid) continue;
    for (const auto& story : stories_in(file.text)) {
      std::string text;
      for (const StoryLine& line : story) {
        text += text.empty() ? "" : " ";
        for (const char c : line.text) text += static_cast<char>(std::tolower(c));
        text += line.answer;
      }
      REQUIRE(text_of(read, read.of(file.part)[at++]) == text);
    }
    CHECK(at == read.of(file.part).size());
  }
}

TEST_CASE("catbabi: a folder written and read is the same; both forms of names") {
  const Folder folder;
  const std::vector<File> files = simulated(few(5));
  const std::string path = folder.file("new/babi");
  write_folder(path, files);
  CHECK(listing(path).size() == 30);
  CHECK(texts_of(read_folder(path)) == texts_of(files));
  CHECK(read_folder(path, std::vector<int64_t>{6, 1}).size() == 6);
  check_refused<UsageError>("new or empty", [&] { write_folder(path, files); });
  check_refused<UsageError>("folder and name, got '" + path + "' and 'qa4_train.txt'",
                            [&] { read_folder(path, std::vector<int64_t>{4}); });
  CHECK_THROWS_AS(read_folder(path, std::vector<int64_t>{21}), ValueError);
  CHECK_THROWS_AS(read_folder(folder.file("none")), FileError);
  check_refused<UsageError>("files of bAbI", [&] { read_folder(folder.path()); });

  // Without a file of valid it is the last tenth of train.
  const std::string named = folder.file("named");
  std::filesystem::create_directory(named);
  std::string train;
  for (int i = 0; i < 25; ++i) train += "1 Now " + std::to_string(i) + ".\n2 When?\tnow\n";
  write_file(named + "/qa3_three-supporting_facts_train.txt", train);
  write_file(named + "/README.txt", "not read");
  check_refused<UsageError>("qa3_test.txt", [&] { read_folder(named); });
  write_file(named + "/qa3_three-supporting_facts_test.txt", kSmall);
  const Stories stories{read_folder(named)};
  CHECK(stories.of(Part::train).size() == 23);
  CHECK(stories.of(Part::valid).size() == 2);
  CHECK(text_of(stories, stories.of(Part::train).back()) == "now 22. when? now");
  CHECK(text_of(stories, stories.of(Part::valid).front()) == "now 23. when? now");
  CHECK(stories.of(Part::test).size() == 2);
  CHECK(stories.tasks() == std::vector<int64_t>{3});
  const std::string large = write_file(named + "/qa5_train.txt", "");
  std::filesystem::resize_file(large, kMostBytes + 1);  // a hole
  write_file(named + "/qa5_test.txt", kSmall);
  check_refused<FileError>("larger", [&] { read_folder(named); });
  write_file(named + "/qa3_test.txt", kSmall);
  check_refused<UsageError>("not two", [&] { read_folder(named); });
  write_file(named + "/qa21_test.txt", kSmall);
  CHECK_THROWS_AS(read_folder(named), FormatError);
}

TEST_CASE("catbabi: what is no bAbI is refused with its file, line and rule") {
  const std::pair<std::string, std::string> cases[] = {
      {"", "must not be empty, got 'qa1_train.txt'"},
      {"2 Mary left.\n", "must be 1"},
      {"1 Mary left.\n1 Mary left.\n1 Mary left.\n3 Mary left.\n3 Mary left.\n",
       "got 'qa1_train.txt', 5"},
      {"1 Mary left.\n\n", "a number from 1"},
      {"Mary left.\n", "a number from 1"},
      {"0 Mary left.\n", "a number from 1"},
      {"-1 Mary left.\n", "a number from 1"},
      {"99999999999999999999 Mary left.\n", "a number from 1"},
      {"1\tMary left.\n", "a number from 1"},
      {"1", "a number from 1"},
      {"1 ", "end in ."},
      {"1 Mary left\n", "end in ."},
      {"1 Is Mary left?\n", "end in ."},
      {"1 Left? Mary left.\n", "end in ."},
      {"1 Mary left.\n2 Is Mary in? \t\t1\n", "one word"},
      {"1 Is Mary in? \tyes no\t1\n", "one word"},
      {"1 Is Mary in? \tyes?\t1\n", "one word"},
      {"1 Is Mary in \tyes\t1\n", "only ?"},
      {"1 Is? Mary in? \tyes\t1\n", "only ?"},
      {"1 \tyes\t1\n", "only ?"},
      {"1 Is Mary in? \tyes\t1\t2\n", "three fields"},
      {std::string("1 Mary\0left.\n", 13), "control"},
      {"1 Mary left.\r\r\n", "control"}};
  for (const auto& each : cases) {
    INFO(each.first);
    check_refused<FormatError>(each.second, [&] { Stories{small_files(each.first)}; });
  }
  // What editors do to files: other ends of lines, none at the last line.
  for (const std::string text :
       {"1 Mary left.\r\n2 Is Mary in? \tNo\r\n", "1 Mary left.\n2 Is Mary in?\tno"}) {
    const Stories stories{small_files(text)};
    CHECK(text_of(stories, stories.of(Part::train).front()) == "mary left. is mary in? no");
  }
  const File only = {1, Part::train, "one", "1 Is Mary in?\tno\n"};
  check_refused<FormatError>("two stories of train, got 'one'", [&] { Stories{{&only, 1}}; });
  check_refused<FormatError>("questions", [] {
    const File file = {1, Part::valid, "one", "1 Mary left.\n"};
    Stories{{&file, 1}};
  });
}

}  // namespace fprnn::tests
