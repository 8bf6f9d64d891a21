// What one pass over the longest sequences says of all shorter ones: counts by place, the figures of
// state tracking's protocols, and how both are kept and shown.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/tasks/arithmetic.h>
#include <fprnn/tasks/recall_tasks.h>
#include <fprnn/tasks/report/report.h>
#include <fprnn/tasks/run/evaluate.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "refused.h"
#include "sample_run.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

// Sequences of so many counted positions after one that is not; whether each answer is right.
void add(Curves& curves, const std::vector<std::vector<int>>& right) {
  const Context context = test_context();
  const auto B = static_cast<int64_t>(right.size()), T = std::ssize(right.front()) + 1;
  std::vector<int32_t> answers;
  std::vector<real> counted(B * T, 1);
  for (int64_t b = 0; b < B; ++b) {
    answers.push_back(5);
    counted[b * T] = 0;
    answers.insert(answers.end(), right[b].begin(), right[b].end());
  }
  const std::vector<int32_t> ones(B * T, 1);
  curves.add(IntTensor(context, {B, T}, answers), {.tokens = int_zeros(context, {B, T}),
                                                   .targets = IntTensor(context, {B, T}, ones),
                                                   .mask = full(context, {B, T}, 1),
                                                   .counted = Tensor(context, {B, T}, counted)});
}

double named(const NamedValues& values, const std::string& name) {
  for (const auto& [key, value] : values)
    if (key == name) return value;
  FAIL("no " << name);
  return 0;
}

// Of n sequences that have an error each, at the places given, and another one at the end.
Curves with_errors(const std::vector<int64_t>& places, int64_t length) {
  std::vector<std::vector<int>> right(places.size(), std::vector<int>(length, 1));
  for (size_t b = 0; b < places.size(); ++b) right[b][places[b] - 1] = right[b][length - 1] = 0;
  Curves curves;
  add(curves, right);
  return curves;
}

std::unique_ptr<SequenceModel> fp_model(const Context& context, const Task& task, Solver solver) {
  const auto make_layer = [solver](Module& parent, std::string name, const Init& init) {
    return std::make_unique<FpMamba>(
        parent, std::move(name), init,
        FpMambaOptions{
            .d_model = 8,
            .d_state = 4,
            .solver = {
                .solver = solver, .max_iterations = 50, .unconverged = Unconverged::accept}});
  };
  Rng rng = initial_stream(3);
  return std::make_unique<SequenceModel>(
      Init{context, rng},
      SequenceModelOptions{
          .vocabulary = task.vocabulary(), .d_model = 8, .layers = 1, .make_layer = make_layer});
}

const Protocols kProtocols = {.prefixes = {{2, {{"whole_sequences", 1}, {"tokens", 0.875}}},
                                           {16, {{"whole_sequences", 0.25}, {"tokens", 0.5}}}},
                              .figures = {{"scaled_tokens", 0.4}, {"longest_90", 12}}};

Evaluation with_protocols() {
  Evaluation evaluation = sample_run("", {0.5}, true).evaluation;
  evaluation.protocols = kProtocols;
  return evaluation;
}

}  // namespace

TEST_CASE("protocols: counts by place, however sequences are cut into batches") {
  Curves whole, cut;
  add(whole, {{1, 1, 0, 1}, {1, 0, 1, 1}, {1, 1, 1, 1}, {0, 1, 1, 0}});
  add(cut, {{1, 1, 0, 1}});
  add(cut, {{1, 0, 1, 1}, {1, 1, 1, 1}, {0, 1, 1, 0}});
  for (const Curves& curves : {whole, cut}) {
    REQUIRE(curves.length() == 4);
    const std::vector<double> exact = {0.75, 0.5, 0.25, 0.25}, right = {0.75, 0.75, 0.75, 0.75};
    for (int64_t k = 1; k <= 4; ++k) {
      CHECK(curves.exact(k) == exact[k - 1]);
      CHECK(curves.right(k) == right[k - 1]);
      CHECK(curves.tokens(k) == 0.75);
    }
    // All rows end at the fifth position, one of four without an error.
    REQUIRE(curves.by_end().size() == 1);
    CHECK(curves.by_end().at(4).value() == 0.25);
    CHECK(curves.by_end().at(4).weight == 4);
  }
  CHECK(Curves().length() == 0);
  CHECK(state_tracking_protocols(Curves(), 6) == Protocols());
}

TEST_CASE("protocols: prefixes are those of the papers, and the whole") {
  const auto lengths = [](int64_t longest) {
    std::vector<int64_t> all;
    for (const PrefixResult& prefix :
         state_tracking_protocols(with_errors({1}, longest), 6).prefixes)
      all.push_back(prefix.length);
    return all;
  };
  CHECK(lengths(1) == std::vector<int64_t>{1});
  CHECK(lengths(2) == std::vector<int64_t>{2});
  CHECK(lengths(20) == std::vector<int64_t>{2, 7, 12, 16, 17, 20});
  CHECK(lengths(512) ==
        std::vector<int64_t>{2, 7, 12, 16, 17, 22, 27, 32, 37, 42, 47, 64, 128, 256, 512});
}

TEST_CASE("protocols: every figure, from sequences whose errors are known") {
  // 100 sequences: 2 go wrong at 10, 7 at 30, 1 at 31, 90 at 60, all of them at 300 too.
  std::vector<int64_t> errors;
  for (const auto& [place, times] : std::map<int64_t, int>{{10, 2}, {30, 7}, {31, 1}, {60, 90}})
    errors.insert(errors.end(), times, place);
  const Protocols all = state_tracking_protocols(with_errors(errors, 300), 60);
  const std::map<int64_t, double> exact{{2, 1},   {7, 1},     {12, .98}, {27, .98},
                                        {32, .9}, {37, 0.90}, {64, 0},   {300, 0}};
  for (const PrefixResult& prefix : all.prefixes) {
    const int64_t k = prefix.length;
    INFO(k);
    if (exact.contains(k)) CHECK(named(prefix.metrics, "whole_sequences") == exact.at(k));
    CHECK(named(prefix.metrics, "last_token") == (k == 300 ? 0 : 1));
    int64_t wrong = k == 300 ? 100 : 0;
    for (const int64_t error : errors) wrong += error <= k;
    CHECK(named(prefix.metrics, "tokens") == doctest::Approx(1 - wrong / (100.0 * k)));
  }
  // At every place, to the first that none reaches.
  REQUIRE(all.exact.size() == 60);
  for (int64_t k = 1; k <= 60; ++k)
    CHECK(all.exact[k - 1] == (k < 10 ? 100 : k < 30 ? 98 : k == 30 ? 91 : k < 60 ? 90 : 0));
  CHECK(named(all.figures, "longest_99") == 9);
  CHECK(named(all.figures, "longest_90") == 59);
  CHECK(named(all.figures, "last_token_40_256") == doctest::Approx(1 - .9 / 217).epsilon(1e-9));
  const double tokens = 1 - 2.0 / 300;
  CHECK(named(all.figures, "scaled_tokens") == doctest::Approx((tokens * 60 - 1) / 59));
  // Where the sequences are too short for the mean it is not there.
  CHECK(state_tracking_protocols(with_errors(errors, 255), 60).figures.size() == 3);
  CHECK(state_tracking_protocols(with_errors(errors, 256), 60).figures.size() == 4);
  const Protocols right = [] {
    Curves curves;
    add(curves, {{1, 1, 1}});
    return state_tracking_protocols(curves, 60);
  }();
  CHECK(right.figures == NamedValues{{"scaled_tokens", 1}, {"longest_90", 3}, {"longest_99", 3}});
  CHECK(right.exact == std::vector<int64_t>{1, 1, 1});
  CHECK(state_tracking_protocols(with_errors({1, 1}, 5), 60).exact == std::vector<int64_t>{0});
}

TEST_CASE("protocols: an evaluation has them of its longest sequences, unless it looks ahead") {
  const Context context = test_context();
  const WordProblem task(group_named("Z2"));
  const std::vector<int64_t> lengths = {5, 9, 3};
  const auto model = fp_model(context, task, Solver::sequential);
  Evaluation result;
  evaluate(*model, task, context, 1, lengths, 50, result);
  REQUIRE(result.lengths.size() == 3);
  for (size_t i = 0; i < 3; ++i)
    CHECK(result.lengths[i] == evaluate(*model, task, context, 1, lengths[i], 50));
  REQUIRE(result.protocols.prefixes.size() == 3);  // 2, 7, 9
  const PrefixResult& whole = result.protocols.prefixes.back();
  CHECK(whole.length == 9);
  for (const auto& [name, value] : whole.metrics)
    CHECK(value == doctest::Approx(result.lengths[1].metric(name)));
  // The first two places of the model's own answers to the same sequences.
  const Batch batch = task.examination(context, evaluation_stream(1, 9), 50, 9);
  NoGrad tape(context);
  const auto answers = argmax(model->forward(tape, batch.tokens).value()).to_vector();
  const auto targets = batch.targets.to_vector();
  double right = 0;
  for (int64_t b = 0; b < 50; ++b)
    right +=
        answers[10 * b + 1] == targets[10 * b + 1] && answers[10 * b + 2] == targets[10 * b + 2];
  CHECK(named(result.protocols.prefixes.front().metrics, "whole_sequences") ==
        doctest::Approx(right / 50));
  REQUIRE(result.protocols.exact.size() >= 2);
  CHECK(double(result.protocols.exact[1]) == right);
  CHECK(std::ranges::is_sorted(result.protocols.exact, std::greater()));

  Evaluation ahead, other;
  evaluate(*fp_model(context, task, Solver::patience), task, context, 1, lengths, 5, ahead);
  CHECK(ahead.lengths.size() == 3);
  CHECK(ahead.protocols == Protocols());
  // Whole sequences of many lengths are themselves, whoever looks ahead.
  const Arithmetic parity({.variant = "parity", .test_from = 3});
  const std::vector<int64_t> longest = {12};
  Evaluation bands;
  evaluate(*fp_model(context, parity, Solver::patience), parity, context, 1, longest, 30, bands);
  REQUIRE(bands.protocols.bands.size() == 5);  // to 4, 6, .., 12
  CHECK(bands.protocols == Protocols{.bands = bands.protocols.bands});
  double rows = 0, all_right = 0;
  for (const PrefixResult& band : bands.protocols.bands) {
    rows += named(band.metrics, "sequences");
    all_right += named(band.metrics, "sequences") * named(band.metrics, "accuracy");
  }
  CHECK(rows == 30);
  CHECK(all_right / 30 == doctest::Approx(bands.lengths.front().metric("accuracy")));
  const SelectiveCopying copying(8, keys_by_length("2"));
  evaluate(*fp_model(context, copying, Solver::sequential), copying, context, 1, lengths, 5, other);
  CHECK(other.protocols == Protocols());
}

TEST_CASE("protocols: in eval.json, where there are any") {
  const Evaluation with = with_protocols(), without = sample_run("", {0.5}, true).evaluation;
  const std::string text = to_json(with);
  CHECK(text.find(R"(
  "prefixes": [
    {"length": 2, "metrics": {"whole_sequences": 1, "tokens": 0.875}},
    {"length": 16, "metrics": {"whole_sequences": 0.25, "tokens": 0.5}}],
  "protocols": {"scaled_tokens": 0.4, "longest_90": 12}
})") != std::string::npos);
  CHECK(evaluation_from_json(text, "") == with);
  CHECK(to_json(without).find("protocols") == std::string::npos);
  CHECK(to_json(without).find("prefixes") == std::string::npos);

  const auto refused = [&](const std::string& from, const std::string& to, const char* words) {
    INFO(to);
    std::string changed = text;
    const size_t at = changed.find(from);
    REQUIRE(at != std::string::npos);
    changed.replace(at, from.size(), to);
    check_refused<FormatError>(words, [&] { evaluation_from_json(changed, "eval.json"); });
  };
  refused("\"prefixes\": [", "\"prefixes\": [[", "an array stands where none belongs");
  refused("\"prefixes\": [", "\"prefixes\": [7, ", "a value stands where an object belongs");
  refused("\"prefixes\": [", "\"prefixes\": [{}, ", "'length' is missing");
  refused("\"length\": 2, ", "\"length\": 2, \"sequences\": 3, ", "'sequences' is unknown");
  refused("\"length\": 2, ", "\"length\": 2, \"length\": 3, ", "'length' appears twice");
  refused("\"length\": 2, ", "\"length\": -2, ", "'length' must not be negative");
  refused(", \"metrics\": {\"whole_sequences\": 1, \"tokens\": 0.875}", "", "'metrics' is missing");
  refused("\"protocols\": {", "\"protocols\": [", "'protocols' must not be an array");
  refused("\"protocols\": {", "\"protocols\": {\"longest_90\": 1, ", "'longest_90' appears twice");
  refused("\"protocols\"", "\"prefixes\"", "'prefixes' appears twice");
}

TEST_CASE("protocols: counts at every place, bands and changes in eval.json") {
  Evaluation with = sample_run("", {0.5}, true).evaluation;
  with.protocols = {.exact = {100, 40, 0},
                    .bands = {{64, {{"sequences", 30}, {"accuracy", 0.5}}},
                              {96, {{"sequences", 70}, {"accuracy", 0.25}}}}};
  with.changes = {{"max_iterations", "4"}, {"solver", "parallel"}};
  const std::string text = to_json(with);
  CHECK(text.find(R"(
  "evaluated_with": {"max_iterations": "4", "solver": "parallel"},
)") != std::string::npos);
  CHECK(text.ends_with(R"(,
  "prefix_exact": [100, 40, 0],
  "bands": [
    {"length": 64, "metrics": {"sequences": 30, "accuracy": 0.5}},
    {"length": 96, "metrics": {"sequences": 70, "accuracy": 0.25}}]
}
)"));
  CHECK(evaluation_from_json(text, "") == with);
  const auto refused = [&](const std::string& to, const char* words) {
    INFO(to);
    std::string changed = text;
    changed.replace(changed.find("[100, 40, 0]"), 12, to);
    check_refused<FormatError>(words, [&] { evaluation_from_json(changed, "eval.json"); });
  };
  refused("[100, -1]", "'prefix_exact' must not be negative");
  refused("[100, 0.5]", "'prefix_exact' must be an integer");
  refused("[100, null]", "'prefix_exact' must be an integer");
  refused("[[100]]", "an array stands where none belongs");
  refused("[{}]", "an object stands where none belongs");
  refused("100", "'prefix_exact' must be an array");
}

TEST_CASE("protocols: bands and changes in tables, changes in the report too") {
  RunResult run = sample_run("a", {0.5, 0.25}, true), other = sample_run("b", {0.5}, false);
  run.evaluation.changes = {{"max_iterations", "4"}, {"solver", "parallel"}};
  run.evaluation.protocols.bands = {{16, {{"sequences", 30}, {"accuracy", 0.5}}},
                                    {32, {{"sequences", 70}, {"accuracy", 0.25}}}};
  CHECK(report_table(std::vector{run}).ends_with(R"(
evaluated with max iterations 4, solver parallel

the 100 sequences of length 32 at most, by length
up to  sequences  accuracy
-----  ---------  --------
   16         30    0.5000
   32         70    0.2500
)"));
  CHECK(report_table(std::vector{run, other})
            .ends_with("\na: evaluated with max iterations 4, solver parallel\n"));
  CHECK(report_svg(std::vector{run}).find("evaluated with max iterations 4, solver parallel, fp") !=
        std::string::npos);
  run.evaluation.changes = {{"a\nb", "c\x1b[31m"}};
  CHECK(report_table(std::vector{run}).find("evaluated with a?b c?[31m\n") != std::string::npos);
}

TEST_CASE("protocols: in the table of one run") {
  const Evaluation with = with_protocols();
  const std::vector<RunResult> one = {{.name = "a", .evaluation = with}};
  const std::string text = report_table(one);
  CHECK(text.ends_with(R"(
beginnings of the 100 sequences of length 16
length  whole sequences  tokens
------  ---------------  ------
     2           1.0000  0.8750
    16           0.2500  0.5000

scaled tokens  longest 90
-------------  ----------
       0.4000          12
)"));
  CHECK(text.starts_with(report_table(std::vector{sample_run("", {0.5}, true)})));
  CHECK(report_table(std::vector{one[0], one[0]}).find("beginnings") == std::string::npos);
}

}  // namespace fprnn::tests
