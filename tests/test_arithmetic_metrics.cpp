// Expressions modulo 5 and small automata: what their answers are judged by.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/arithmetic.h>
#include <fprnn/tasks/run/train.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "context.h"
#include "questions.h"

namespace fprnn::tests {

TEST_CASE("arithmetic: the plateau is ln of the number of answers, where nothing else is known") {
  const Context context = host_context();
  const std::map<std::string, std::pair<int32_t, int32_t>> answers{
      {"brackets", {0, 5}}, {"plain", {5, 5}}, {"parity", {1, 2}}, {"cycle", {4, 5}}};
  for (const auto& entry : answers) {
    INFO(entry.first);
    const auto& [first, many] = entry.second;
    const Arithmetic task = task_of(entry.first);
    const Batch batch = task.sample(context, Rng{4}, 30, 12);
    const int64_t V = task.vocabulary(), places = batch.tokens.elements();
    std::vector<real> logits(places * V, -200);
    for (int64_t i = 0; i < places; ++i) std::fill_n(logits.begin() + i * V + first, many, real(0));
    const Tensor all(context, {30, batch.tokens.size(1), V}, logits);
    const IntTensor given = argmax(all);
    CHECK(nats({batch, given, all, scores(given, batch)}).value() ==
          doctest::Approx(std::log(double(many))));
  }
  CHECK(std::log(5.0) == doctest::Approx(1.609).epsilon(1e-3));
}

TEST_CASE("arithmetic: accuracy, scaled, and those of the constant answer") {
  const Context context = host_context();
  const Arithmetic task = task_of("brackets");
  const Batch batch = task.sample(context, Rng{4}, 20'000, 40);
  const auto values = [&](const std::vector<int32_t>& given) {
    const IntTensor answers(context, batch.tokens.shape(), given);
    const Tensor logits;
    const Answered answered{batch, answers, logits, scores(answers, batch)};
    std::map<std::string, double> values;
    for (const Metric& metric : metrics_of(task))
      values[metric.name] = value_of(metric, metric.over(answered));
    return values;
  };
  auto all = values(batch.targets.to_vector());
  CHECK((all["accuracy"] == 1 && all["scaled_accuracy"] == 1));
  CHECK(std::abs(all["constant"] - .2666) < 0.013);
  CHECK(std::abs(all["scaled_constant"] - .083) < 0.016);
  all = values(std::vector<int32_t>(batch.targets.elements(), 0));
  CHECK(all["accuracy"] == all["constant"]);
  CHECK(all["scaled_accuracy"] == all["scaled_constant"]);
  all = values(std::vector<int32_t>(batch.targets.elements(), -1));
  CHECK((all["accuracy"] == 0 && all["scaled_accuracy"] == doctest::Approx(-.25)));
  CHECK(metrics_of(task).front().name == "accuracy");
  CHECK(metrics_of(task).front().of_sequences);
}

TEST_CASE("arithmetic: an examination of many lengths is reported by length") {
  const Context context = host_context();
  const auto bands_of = [&](const std::string& variant, int64_t from, int64_t to, size_t right_to) {
    const Arithmetic task = task_of(variant, true, from);
    const Batch batch = task.examination(context, Rng{3}, 4000, to);
    std::vector<int32_t> answers = batch.targets.to_vector();
    const std::vector<Question> all = questions(variant, batch);
    const int64_t T = batch.tokens.size(1);
    for (size_t b = 0; b < all.size(); ++b)  // right up to a length
      if (all[b].length > right_to)
        std::fill_n(answers.begin() + static_cast<int64_t>(b) * T, T, -1);
    Curves curves;
    curves.add(IntTensor(context, batch.tokens.shape(), answers), batch);
    const Protocols protocols = task.protocols(curves);
    CHECK((protocols.prefixes.empty() && protocols.exact.empty() && protocols.figures.empty()));
    int64_t below = 0, rows = 0;
    for (const PrefixResult& band : protocols.bands) {
      INFO(variant, band.length);
      int64_t within = 0, right = 0;
      for (const Question& q : all) {
        const auto length = static_cast<int64_t>(q.length);
        if (length <= below || length > band.length) continue;
        ++within;
        right += q.length <= right_to;
      }
      const double accuracy = double(right) / double(within), m = variant == "parity" ? 2 : 5;
      CHECK(band.metrics == NamedValues{{"sequences", double(within)},
                                        {"accuracy", accuracy},
                                        {"scaled_accuracy", (accuracy - 1 / m) / (1 - 1 / m)}});
      rows += within;
      below = band.length;
    }
    CHECK((protocols.bands.empty() || rows == 4000));
    std::vector<int64_t> lengths;
    for (const PrefixResult& band : protocols.bands) lengths.push_back(band.length);
    return lengths;
  };
  using Lengths = std::vector<int64_t>;
  CHECK(bands_of("brackets", 40, 256, 100) == Lengths{64, 96, 128, 160, 192, 224, 256});
  CHECK(bands_of("plain", 40, 256, 130) == Lengths{64, 96, 128, 160, 192, 224, 255});
  CHECK(bands_of("parity", 3, 40, 20) == Lengths{8, 16, 24, 32, 40});
  CHECK(bands_of("cycle", 256, 256, 20) == Lengths{256});
  CHECK(bands_of("brackets", 3, 5, 5) == Lengths{5});
  CHECK(bands_of("parity", 0, 40, 20).empty());
  CHECK(task_of("parity", true, 40).protocols(Curves()) == Protocols());
}

}  // namespace fprnn::tests
