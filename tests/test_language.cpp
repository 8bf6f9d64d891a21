// Language modelling: texts, windows and lanes, and what a text's bytes cost.
#include <doctest/doctest.h>
#include <fprnn/tasks/language_modelling.h>
#include <fprnn/tasks/markov_text.h>
#include <fprnn/tasks/named_text.h>
#include <fprnn/tasks/run/evaluate.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <numbers>

#include "folder.h"
#include "named_model.h"
#include "refused.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

using Ids = std::vector<int32_t>;
using Part = LanguageModelling::Part;

Ids read(const Text& text, int64_t begin, int64_t count) {
  Ids ids(count);
  text.read(begin, ids);
  return ids;
}
Ids all_of(const Text& text) { return read(text, 0, text.size()); }

// A text in which every place is told by its last bytes: 0 0, 0 1, .. as two bytes.
std::string numbered(int64_t count) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) {
    bytes += static_cast<char>(i / 251);
    bytes += static_cast<char>(i % 251);
  }
  return bytes;
}

// That each target is the token one position later, in rows that begin with a border or go on.
void check_shifted(const Batch& batch, bool starts) {
  CHECK(batch.starts == starts);
  const int64_t B = batch.tokens.size(0), T = batch.tokens.size(1);
  const Ids tokens = batch.tokens.to_vector(), targets = batch.targets.to_vector();
  for (int64_t b = 0; b < B; ++b) {
    CHECK((tokens[b * T] == Text::kBorder) == starts);
    for (int64_t t = 1; t < T; ++t) CHECK(tokens[b * T + t] == targets[b * T + t - 1]);
  }
}

// The counted targets of a reading, row after row.
Ids targets_of(const Context& host, const Reading& reading) {
  Ids all;
  for (int64_t number = 0; number < reading.batches; ++number) {
    const Batch batch = reading.batch(host, number);
    const Ids targets = batch.targets.to_vector();
    const std::vector<real> mask = batch.mask.to_vector();
    for (size_t i = 0; i < targets.size(); ++i)
      if (mask[i] != 0) all.push_back(targets[i]);
  }
  return all;
}

}  // namespace

TEST_CASE("language: a text is its files' bytes, sorted, with a border between") {
  const Folder folder;
  std::filesystem::create_directories(folder.file("f/deep"));
  write_file(folder.file("f/b"), std::string("\xff\0z", 3));
  write_file(folder.file("f/deep/c"), "c");
  write_file(folder.file("f/a"), "xy");
  write_file(folder.file("f/empty"), "");
  const Text text({folder.file("f"), folder.file("f/a")});
  const Ids wanted = {'x', 'y', 256, 255, 0, 'z', 256, 'c', 256, 'x', 'y'};
  CHECK(all_of(text) == wanted);
  for (int64_t begin = 0; begin <= text.size(); ++begin)
    for (int64_t end = begin; end <= text.size(); ++end)
      CHECK(read(text, begin, end - begin) == Ids(wanted.begin() + begin, wanted.begin() + end));
  CHECK_THROWS_AS(read(text, 0, text.size() + 1), ValueError);
  CHECK_THROWS_AS(read(text, -1, 1), ValueError);
  CHECK(all_of(text_named(folder.file("f/a") + "," + folder.file("f/b"))) ==
        Ids{'x', 'y', 256, 255, 0, 'z'});
}

TEST_CASE("language: a text that is not there or empty is refused") {
  const Folder folder;
  write_file(folder.file("empty"), "");
  std::filesystem::create_directories(folder.file("nothing"));
  REQUIRE(::mkfifo(folder.file("pipe").c_str(), 0600) == 0);
  check_refused<UsageError>("must be there", [&] { text_named(folder.file("none")); });
  check_refused<UsageError>("must not be empty", [&] { text_named(folder.file("empty")); });
  check_refused<UsageError>("there must be a file", [&] { text_named(folder.file("nothing")); });
  check_refused<UsageError>("a file or a folder", [&] { text_named(folder.file("pipe")); });
  for (const char* name : {"", ",", "markov:", "markov:-1", "markov:x"})
    CHECK_THROWS_AS(text_named(name), UsageError);
  check_refused<FileError>("regular", [&] { MappedFile pipe(folder.file("pipe")); });
}

TEST_CASE("language: a text is described by its size and its bytes, a large one by some of them") {
  const std::string bytes = numbered(2000);
  const std::string whole = Text(bytes).description();
  CHECK(whole.starts_with("4000 tokens, fingerprint "));
  CHECK(Text(bytes).description() == whole);
  for (const size_t place : {size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
    std::string changed = bytes;
    changed[place] ^= 1;
    CHECK(Text(changed).description() != whole);
  }
  const Folder folder;
  // Where the border stands counts, the names of files do not.
  const auto parts = [&](const std::string& a, const std::string& b) {
    return Text({write_file(folder.file("a"), a), write_file(folder.file("b"), b)}).description();
  };
  CHECK(parts("xyz", "y") != parts("xy", "zy"));
  CHECK(parts("xyz", "y") == parts("xyz", "y"));
  CHECK(Text().description().starts_with("0 tokens"));

  // A sparse file of 16 GiB: the last byte of the last piece, and the first of the second one.
  constexpr int64_t kSize = int64_t{1} << 34, kPiece = 1 << 18;
  const std::string large = write_file(folder.file("large"), "");
  std::filesystem::resize_file(large, kSize);
  const std::string zeros = text_named(large).description();
  const auto with_one_at = [&](int64_t place) {
    const auto put = [&](char byte) {
      std::fstream(large, std::ios::in | std::ios::out | std::ios::binary).seekp(place).put(byte);
    };
    put(1);
    const std::string description = text_named(large).description();
    put(0);
    return description;
  };
  CHECK(with_one_at(kSize - 1) != zeros);
  CHECK(with_one_at((kSize - kPiece) / 63) != zeros);
}

TEST_CASE("language: a step says its loss in bits of a byte, and how many bytes a second") {
  const Context context = test_context();
  const Folder folder;
  // Every other token is a border.
  for (char name = 'a'; name < 'z'; ++name) write_file(folder.file({name}), "x");
  const LanguageModelling task(text_named(folder.path()), {});
  Rng rng = initial_stream(1);
  const auto model = named_model(key_texts("model=mamba d_model=8 d_state=4 layers=1"),
                                 task.vocabulary(), {context, rng});
  train(
      *model, task, context, {.steps = 3, .batch_size = 2, .accumulate = 2, .length = 10},
      [&](const StepMetrics& metrics) {
        REQUIRE(metrics.in_units.size() == 2);
        CHECK(metrics.in_units[0].first == "bits_per_byte");
        CHECK(metrics.in_units[0].second == doctest::Approx(2 * metrics.loss / std::numbers::ln2));
        CHECK(metrics.in_units[1].first == "bytes_per_second");
        CHECK(metrics.in_units[1].second == doctest::Approx(metrics.tokens_per_second / 2));
        return true;
      });
}

TEST_CASE(
    "language: the validation loss is that of the part for validation, whatever is held out") {
  const Context context = test_context();
  const Text text(numbered(2000));
  const LanguageModelling task(text, {.held_out = Part::test}), validation(text, {});
  Rng rng = initial_stream(1);
  const auto model = named_model(key_texts("model=mamba d_model=8 d_state=4 layers=1"),
                                 task.vocabulary(), {context, rng});
  const double loss = validation_loss(*model, task, context, 0, 16, 1);
  const double perplexity = evaluate(*model, validation, context, 0, 16, 1).metric("perplexity");
  CHECK(loss == doctest::Approx(std::log(perplexity)));
  CHECK(std::abs(loss - std::log(evaluate(*model, task, context, 0, 16, 1).metric("perplexity"))) >
        1e-6);
}

// Sparse files: 16 GiB that no disk and no memory holds.
TEST_CASE("language: a text of any size is read in place, and windows are drawn from all of it") {
  const Context host = host_context();
  const Folder folder;
  constexpr int64_t kSize = int64_t{1} << 34;
  write_file(folder.file("large"), "");
  std::filesystem::resize_file(folder.file("large"), kSize);
  const LanguageModelling task(text_named(folder.file("large")), {});
  CHECK(task.part(Part::training).size() > kSize / 10 * 9);
  CHECK(task.part(Part::validation).begin == task.part(Part::training).end);
  CHECK(task.part(Part::test).begin == task.part(Part::validation).end);
  CHECK(task.part(Part::test).end == kSize);
  CHECK(task.part(Part::test).size() == kSize / 20);
  CHECK(task.sample(host, {}, 4, 100).tokens.shape() == Shape{4, 100});
}

TEST_CASE("language: windows begin with a border, at places of the part that is trained on alone") {
  const Context host = host_context();
  const LanguageModelling task(Text(numbered(2000)), {});
  const int64_t end = task.part(Part::training).end;
  CHECK(end == 3600);
  int64_t first = end, last = 0;
  for (int64_t number = 0; number < 100; ++number) {
    const Batch batch = task.training_batch(host, 1, number, 16, 8);
    check_shifted(batch, true);
    const Ids targets = batch.targets.to_vector();
    for (int64_t b = 0; b < 16; ++b) {
      // Which place it is, for an odd one by its second byte.
      const auto number_at = [&](int64_t t) {
        return targets[b * 8 + t] * 251 + targets[b * 8 + t + 1];
      };
      const bool even = number_at(2) == number_at(0) + 1 && number_at(4) == number_at(2) + 1;
      const int64_t place = even ? 2 * number_at(0) : 2 * number_at(1) - 1;
      CHECK(targets == [&] {
        Ids same = targets;
        const Ids here = read(Text(numbered(2000)), place, 8);
        std::copy(here.begin(), here.end(), same.begin() + b * 8);
        return same;
      }());
      first = std::min(first, place);
      last = std::max(last, place);
    }
  }
  CHECK((first >= 0 && first < 20));
  CHECK((last <= end - 8 && last > end - 28));
  const auto tokens = [&](uint64_t seed, int64_t number) {
    return task.training_batch(host, seed, number, 4, 8).tokens.to_vector();
  };
  CHECK(tokens(1, 0) == tokens(1, 0));
  CHECK(tokens(1, 0) != tokens(1, 1));
  CHECK(tokens(1, 0) != tokens(2, 0));
}

TEST_CASE("language: lanes read the text on from batch to batch, and begin again together") {
  const Context host = host_context();
  const LanguageModelling task(Text(numbered(100)), {.carries_state = true});
  const Text text{numbered(100)};
  CHECK(task.carries_state());
  constexpr int64_t B = 3, T = 7, kLane = 180 / B, kBatches = kLane / T;
  for (int64_t number = 0; number < 2 * kBatches + 1; ++number) {
    const Batch batch = task.training_batch(host, 0, number, B, T);
    const int64_t within = number % kBatches;
    check_shifted(batch, within == 0);
    const Ids tokens = batch.tokens.to_vector(), targets = batch.targets.to_vector();
    for (int64_t b = 0; b < B; ++b) {
      const int64_t place = b * kLane + within * T;
      CHECK(Ids(targets.begin() + b * T, targets.begin() + (b + 1) * T) == read(text, place, T));
      if (within > 0) CHECK(tokens[b * T] == read(text, place - 1, 1).front());
    }
  }
  check_refused<ValueError>("lanes", [&] { task.training_batch(host, 0, 0, 30, T); });
  check_refused<ValueError>("lanes", [&] { task.check_lanes(30, T); });
  task.check_lanes(B, T);
  LanguageModelling(Text(numbered(100)), {}).check_lanes(30, T);
  check_refused<ValueError>("as long as a sequence", [&] { task.check_training(181); });
}

TEST_CASE("language: every held-out byte is predicted once, by windows and as one sequence") {
  const Context host = host_context();
  const Text text{numbered(9000)};
  for (const Part part : {Part::validation, Part::test}) {
    const LanguageModelling task(Text(numbered(9000)), {.held_out = part});
    const auto range = task.part(part);
    const Ids wanted = read(text, range.begin, range.size());
    for (const int64_t length : {1, 7, 100, 900, 5000}) {
      const auto reading = task.reading(length);
      CHECK(targets_of(host, *reading) == wanted);
      CHECK(reading->sequences == (900 + length - 1) / length);
      CHECK(reading->batch(host, 0).starts);
      CHECK(!reading->carries);
    }
    const std::vector<Reading> texts = task.texts();
    REQUIRE(texts.size() == 1);
    CHECK(targets_of(host, texts[0]) == wanted);
    CHECK((texts[0].length == 900 && texts[0].sequences == 1 && texts[0].carries));
  }
  // One that takes several batches goes on in the second.
  const LanguageModelling large(Text(numbered(400'000)), {});
  const Reading whole = large.texts().front();
  REQUIRE(whole.batches == 3);
  check_shifted(whole.batch(host, 0), true);
  check_shifted(whole.batch(host, 1), false);
  CHECK(whole.batch(host, 0).targets.to_vector().back() ==
        whole.batch(host, 1).tokens.to_vector().front());
  CHECK(LanguageModelling(Text(numbered(9000)), {.most = 50}).texts()[0].length == 50);
  CHECK_THROWS_AS(LanguageModelling(Text("abc"), {.most = -1}), ValueError);
  CHECK_THROWS_AS(LanguageModelling(Text("abc"), {}).check_examination(8), ValueError);
}

TEST_CASE(
    "language: a byte costs log2 257 bits where all logits are equal, borders count as no bytes") {
  const Context context = test_context();
  Rng rng{2, 1};
  const auto model = named_model(key_texts("model=mamba d_model=8 d_state=4 layers=1"),
                                 Text::kVocabulary, {context, rng});
  const Tensor& embedding = model->parameter("embedding.weight").value;
  assign(embedding, std::vector<real>(embedding.elements(), 0));
  const Folder folder;
  write_file(folder.file("x"), std::string(950, 'x'));
  write_file(folder.file("y"), std::string(30, 'y'));
  write_file(folder.file("z"), std::string(18, 'z'));  // 950 + 1 + 30 + 1 + 18 = 1000 tokens
  const auto result = [&](Part part) {
    const LanguageModelling task(text_named(folder.path()), {.held_out = part});
    return evaluate(*model, task, context, 0, 16, 1);
  };
  const double bits = std::log2(257.0);
  CHECK(std::abs(result(Part::validation).metric("bits_per_byte") - bits) < 1e-5);
  CHECK(std::abs(result(Part::validation).metric("perplexity") - 257) < 1e-2);
  // Of the 50 tokens of the last part two are borders.
  CHECK(std::abs(result(Part::test).metric("bits_per_byte") - bits * 50 / 48) < 1e-5);
  CHECK(std::abs(result(Part::test).metric("perplexity") - 257) < 1e-2);
}

// With a mixer of scale 1, where there is one root to find.
TEST_CASE("language: what a text costs as one sequence does not depend on how it is cut") {
  const Context host = host_context();
  const Context context = test_context();
  Rng rng{2, 1};
  const auto model =
      named_model(key_texts("model=fp-mamba d_model=8 d_state=4 layers=2 solver=sequential "
                            "mixer_scale=1 tolerance=1e-6"),
                  Text::kVocabulary, {context, rng});
  const LanguageModelling task(Text(MarkovText(3).bytes(4000)), {});
  Reading whole = task.texts().front();
  REQUIRE(whole.length == 200);
  const double bits = evaluate(*model, task, context, whole).metric("bits_per_byte");
  // The batch of one sequence, columns at a time.
  const Batch all = whole.batch(host, 0);
  const auto columns = [&](const auto& x, int64_t begin, int64_t end) {
    auto values = x.to_vector();
    values = {values.begin() + begin, values.begin() + end};
    return std::decay_t<decltype(x)>(host, {1, end - begin}, values);
  };
  for (const int64_t window : {1, 33, 64}) {
    Reading cut = whole;
    cut.batches = (200 + window - 1) / window;
    cut.batch = [&](const Context&, int64_t number) {
      const int64_t begin = number * window, end = std::min<int64_t>(begin + window, 200);
      return Batch{.tokens = columns(all.tokens, begin, end),
                   .targets = columns(all.targets, begin, end),
                   .mask = columns(all.mask, begin, end),
                   .starts = number == 0};
    };
    CHECK(std::abs(evaluate(*model, task, context, cut).metric("bits_per_byte") - bits) < 1e-4);
  }
}

TEST_CASE("language: the Markov text has the entropy that it says, and nobody does better") {
  const MarkovText source(5);
  const double rate = source.entropy_rate();
  CHECK((rate > 1 && rate < 3.9));
  constexpr int64_t kCount = 400'000;
  const std::string text = source.bytes(kCount);
  CHECK(text == source.bytes(2 * kCount).substr(0, kCount));
  CHECK(text != MarkovText(6).bytes(kCount));
  double sum = 0;
  for (char c = 'a'; c < 'a' + MarkovText::kLetters; ++c) sum += source.probability('b', 'c', c);
  CHECK(std::abs(sum - 1) < 1e-12);
  // The source's own probabilities, and those counted in the first nine tenths, on the last tenth.
  std::map<std::string, double> seen;
  for (int64_t i = 2; i < kCount / 10 * 9; ++i) {
    seen[text.substr(i - 2, 2)] += 1;
    seen[text.substr(i - 2, 3)] += 1;
  }
  double ideal = 0, counted = 0, held_out = 0;
  for (int64_t i = 2; i < kCount; ++i) {
    const double bits = -std::log2(source.probability(text[i - 2], text[i - 1], text[i]));
    ideal += bits / (kCount - 2);
    if (i < kCount / 10 * 9) continue;
    held_out += bits / (kCount / 10);
    const double p = (seen[text.substr(i - 2, 3)] + 0.05) / (seen[text.substr(i - 2, 2)] + 0.8);
    counted -= std::log2(p) / (kCount / 10);
  }
  CHECK(std::abs(ideal - rate) < 0.01);
  CHECK((counted > held_out && counted < held_out + 0.02));
}

TEST_CASE("language: the default text is one that is there") {
  const std::string name = default_text();
  const Text text = text_named(name);
  CHECK(text.size() > 1'000'000);
  if (name == "kjv")
    CHECK(read(text, 0, 11) == Ids{'\n', 'G', 'e', 'n', 'e', 's', 'i', 's', ' ', '1', '\n'});
}

}  // namespace fprnn::tests
