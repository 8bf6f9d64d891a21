// The JSON of what a run leaves behind, written and read back, and what an enemy might write.
#include <doctest/doctest.h>
#include <fprnn/core/check.h>
#include <fprnn/tasks/report/record.h>

#include <cmath>
#include <limits>

#include "refused.h"
#include "sample_run.h"

namespace fprnn::tests {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const StepMetrics kStep{.step = 7,
                        .seconds = 0.1,
                        .loss = -1.0 / 3,
                        .accuracy = 0.5,
                        .lr = 1e-300,
                        .grad_norm = 1.7976931348623157e308,
                        .iterations_mean = 5e-324,
                        .iterations_max = 12,
                        .residual_max = 9.5e-5,
                        .unconverged = 3,
                        .adjoint_iterations_mean = 2.5,
                        .adjoint_iterations_max = 4,
                        .adjoint_residual_max = 1e-7,
                        .adjoint_unconverged = 2,
                        .skipped = 1,
                        .tokens_per_second = 123456.789};

constexpr const char* kStepJson =
    R"({"step": 7, "seconds": 0.1, "loss": -0.3333333333333333, "accuracy": 0.5, "lr": 1e-300, )"
    R"("grad_norm": 1.7976931348623157e+308, "iterations_mean": 5e-324, "iterations_max": 12, )"
    R"("residual_max": 9.5e-05, "unconverged": 3, "adjoint_iterations_mean": 2.5, )"
    R"("adjoint_iterations_max": 4, "adjoint_residual_max": 1e-07, "adjoint_unconverged": 2, )"
    R"("skipped": 1, "tokens_per_second": 123456.789})";

constexpr const char* kEvaluationJson =
    R"({
  "task": "state_tracking",
  "settings": {"group": "S3"},
  "model": "fp-mamba",
  "parameters": 12345,
  "device": "cpu",
  "solver": "sequential",
  "gradient": "one-step",
  "train_length": 16,
  "steps": 0,
  "train_seconds": 61.5,
  "version": "0.1.0",
  "commit": "abc",
  "gpu": "",
  "instruction_set": "avx512",
  "seed": 18446744073709551615,
  "caption": "whole sequences right",
  "lengths": [
    {"length": 16, "sequences": 100, "metrics": {"whole_sequences": 0.5, "tokens": 0.75, "last_token": 0.5}, )"
    R"("wilson_low": 0.4038315303659956, "wilson_high": 0.5961684696340044, "iterations_mean": 20.25, )"
    R"("iterations_max": 16, "residual_max": 9e-05, "unconverged": 0}]
}
)";

constexpr const char* kWilsonJson =
    R"("wilson_low": 0.4038315303659956, "wilson_high": 0.5961684696340044, )";

// The same as it was written before metrics had names.
constexpr const char* kOldEvaluationJson = R"({
  "task": "state_tracking",
  "group": "S3",
  "model": "fp-mamba",
  "parameters": 12345,
  "device": "cpu",
  "solver": "sequential",
  "gradient": "one-step",
  "train_length": 16,
  "steps": 0,
  "train_seconds": 61.5,
  "lengths": [
    {"length": 16, "sequences": 100, "sequence_accuracy": 0.5, "standard_error": 7, )"
                                           R"("token_accuracy": 0.75, "last_token_accuracy": 0.5, )"
                                           R"("iterations_mean": 20.25, "iterations_max": 16, )"
                                           R"("residual_max": 9e-05, "unconverged": 0}]
}
)";

Evaluation made(Evaluation evaluation) {
  evaluation.origin = {.version = "0.1.0",
                       .commit = "abc",
                       .machine = {.instruction_set = "avx512"},
                       .seed = ~uint64_t{0}};
  return evaluation;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// The message must name the source and the fragment.
void check_step_refused(const std::string& text, const std::string& fragment) {
  INFO(text.substr(0, 200));
  const auto read = [&] { step_metrics_from_json(text, "metrics.jsonl:9"); };
  check_refused<FormatError>("metrics.jsonl:9", read);
  check_refused<FormatError>(fragment, read);
}
void check_evaluation_refused(const std::string& text, const std::string& fragment) {
  INFO(text.substr(0, 200));
  const auto read = [&] { evaluation_from_json(text, "a/eval.json"); };
  check_refused<FormatError>("a/eval.json", read);
  check_refused<FormatError>(fragment, read);
}

}  // namespace

TEST_CASE("record: the text of a step, and back to the last bit") {
  CHECK(to_json(kStep) == kStepJson);
  CHECK(step_metrics_from_json(kStepJson, "") == kStep);
  CHECK(step_metrics_from_json(to_json(StepMetrics{}), "") == StepMetrics{});
}

TEST_CASE("record: what a step and a length say of each layer, and a step in units") {
  StepMetrics step = kStep;
  step.layers = {.mean = {{"0", 2.5}, {"10", 1}},
                 .median = {{"0", 2}, {"10", 1}},
                 .max = {{"0", 4}, {"10", 1}},
                 .unconverged = {{"0", 0}, {"10", 3}}};
  step.validation_loss = 0.75;
  step.in_units = {{"bits_per_byte", 2.25}, {"bytes_per_second", 1e4}};
  const std::string text = to_json(step);
  CHECK(text.find(R"("layer_iterations": {"0": 2.5, "10": 1}, "layer_iterations_median": {"0": 2, )"
                  R"("10": 1}, "layer_iterations_max": {"0": 4, "10": 1}, )"
                  R"("layer_unconverged": {"0": 0, "10": 3}, "skipped": 1, )"
                  R"("in_units": {"bits_per_byte": 2.25, "bytes_per_second": 10000}, )") !=
        std::string::npos);
  CHECK(text.ends_with(R"("validation_loss": 0.75})"));
  CHECK(step_metrics_from_json(text, "") == step);
  Evaluation evaluation = sample_run("", {0.5, 1}, true).evaluation;
  evaluation.lengths[1].layers = step.layers;
  evaluation.kept = {{"step", 12}, {"validation_loss", 0.75}};
  CHECK(evaluation_from_json(to_json(evaluation), "") == evaluation);
}

TEST_CASE("record: a step of before the adjoint was counted") {
  StepMetrics before = kStep;
  before.adjoint_iterations_mean = before.adjoint_residual_max = 0;
  before.adjoint_iterations_max = before.adjoint_unconverged = 0;
  const std::string text = kStepJson;
  const size_t begin = text.find("\"adjoint_iterations_mean"), end = text.find("\"skipped");
  CHECK(step_metrics_from_json(text.substr(0, begin) + text.substr(end), "") == before);
}

TEST_CASE("record: the text of an evaluation, and back") {
  const Evaluation one = made(sample_run("", {0.5}, true).evaluation);
  CHECK(to_json(one) == kEvaluationJson);
  CHECK(evaluation_from_json(kEvaluationJson, "") == one);
  for (const Evaluation& each :
       {Evaluation{}, sample_run("", {1, 0.99, 1.0 / 3, 0}, false).evaluation})
    CHECK(evaluation_from_json(to_json(each), "") == each);

  Evaluation strange = one;
  strange.model = "\"\\\n\t\x01</script>\xC3\xA9";
  CHECK(evaluation_from_json(to_json(strange), "") == strange);
  strange.model = "a\xFF";  // no UTF-8, and so no JSON
  CHECK(evaluation_from_json(to_json(strange), "").model == "a\xEF\xBF\xBD");
}

TEST_CASE("record: an evaluation without the interval of its share") {
  Evaluation one = made(sample_run("", {0.5}, true).evaluation);
  one.lengths[0].wilson = {};
  for (const char* none : {"\"wilson_low\": null, \"wilson_high\": null, ", ""})
    CHECK(evaluation_from_json(replaced(kEvaluationJson, kWilsonJson, none), "") == one);
  CHECK(to_json(one).find("\"wilson_low\": null") != std::string::npos);
}

TEST_CASE("record: evaluations of before shares had intervals are read") {
  const Evaluation now = made(sample_run("", {0.5}, true).evaluation);
  CHECK(evaluation_from_json(replaced(kEvaluationJson, kWilsonJson, "\"standard_error\": 0.05, "),
                             "") == now);
  Evaluation none = now;
  none.lengths[0].wilson = {};
  CHECK(evaluation_from_json(replaced(kEvaluationJson, kWilsonJson, "\"standard_error\": null, "),
                             "") == none);
}

TEST_CASE("record: metrics and settings of any names, in their order") {
  Evaluation evaluation{.settings = {{"z", "1"}, {"a", "\"\n"}, {"", ""}}};
  evaluation.lengths = {{.metrics = {{"z", -1e300}, {"a", 1e300}, {"", 0}, {"\xC3\xA9", 7}}}, {}};
  CHECK(evaluation_from_json(to_json(evaluation), "") == evaluation);
  CHECK(evaluation.lengths[0].metric("a") == 1e300);
  CHECK(std::isnan(evaluation.lengths[0].metric("b")));
  CHECK(std::isnan(evaluation.lengths[1].metric("a")));
}

TEST_CASE("record: evaluations of before metrics had names are read") {
  Evaluation before = sample_run("", {0.5}, true).evaluation;
  CHECK(evaluation_from_json(kOldEvaluationJson, "") == before);
  before.settings.clear();
  CHECK(evaluation_from_json(replaced(kOldEvaluationJson, "\"S3\"", "\"\""), "") == before);
  for (const char* other : {"\"standard_error\": null, ", ""})
    CHECK(evaluation_from_json(replaced(kOldEvaluationJson, "\"standard_error\": 7, ", other), "")
              .lengths[0]
              .wilson == wilson_interval(0.5, 100));
  const auto refused = [](const std::string& from, const std::string& to,
                          const std::string& words) {
    check_evaluation_refused(replaced(kOldEvaluationJson, from, to), words);
  };
  refused("\"token_accuracy\": 0.75, ", "", "'token_accuracy' is missing");
  refused("\"sequence_accuracy\": 0.5, ", "", "'metrics' is missing");
  refused("\"sequence_accuracy\": 0.5, ", "\"metrics\": {}, ", "'token_accuracy' is unknown");
  refused("\"token", "\"metrics\": {}, \"token", "'metrics' is unknown");
  refused("\"group\": \"S3\"", "\"group\": \"S3\", \"settings\": {}", "'group' is unknown");
  refused("\"group\": \"S3\",", "", "'settings' is missing");
  refused("0.75", "1.5", "'token_accuracy' is out of range");
  refused("\"S3\"", "3", "'group' must be a string");
}

TEST_CASE("record: files of before say nothing of what made them") {
  std::string before = kEvaluationJson;
  const size_t begin = before.find("  \"version\""), end = before.find("  \"caption\"");
  before.erase(begin, end - begin);
  CHECK(evaluation_from_json(before, "") == sample_run("", {0.5}, true).evaluation);
  CHECK(
      to_json(RunStart{.step = 7, .origin = {.version = "1", .commit = "c", .seed = 3}}) ==
      R"({"step": 7, "version": "1", "commit": "c", "gpu": "", "instruction_set": "", "seed": 3})");
}

TEST_CASE("record: what is not finite is null, and reads as NaN") {
  for (const double value : {kInfinity, -kInfinity, std::nan("")}) {
    const std::string text = to_json(StepMetrics{.loss = value});
    CHECK(text.find("\"loss\": null,") != std::string::npos);
    CHECK(std::isnan(step_metrics_from_json(text, "").loss));
  }
  const LengthResult result{.length = 1, .metrics = {{"a", std::nan("")}}};
  const Evaluation evaluation{.lengths = {result}};
  CHECK(std::isnan(evaluation_from_json(to_json(evaluation), "").lengths[0].metric("a")));
}

TEST_CASE("record: malformed steps are refused") {
  const auto with = [](const std::string& from, const std::string& to) {
    return replaced(kStepJson, from, to);
  };
  for (const char* text : {"", " ", "x", "{", "{\"step\"", "{\"step\":}", "{'step': 1}"})
    check_step_refused(text, "byte");
  check_step_refused(std::string(kStepJson) + "x", "byte");
  check_step_refused(std::string(kStepJson) + kStepJson, "byte");
  check_step_refused(std::string(kStepJson).substr(0, 200), "byte");
  check_step_refused(kStepJson + std::string(1, '\0') + "x", "zero byte");
  check_step_refused(with("\"lr\"", "\"l\xFF\""), "byte");
  for (const char* text : {"1", "null", "\"a\"", "true"}) check_step_refused(text, "a value");
  check_step_refused("[]", "an array");
  check_step_refused("{}", "'step' is missing");
  check_step_refused(with("\"skipped\": 1, ", ""), "'skipped' is missing");
  check_step_refused(with("\"skipped\"", "\"stepped\""), "'stepped' is unknown");
  check_step_refused(with("\"skipped\"", "\"\\u001b[2J\""), "'?[2J' is unknown");
  check_step_refused(with("\"skipped\"", "\"" + std::string(1000, 'k') + "\""), "kk..kk");
  check_step_refused(with("\"skipped\"", "\"step\""), "'step' appears twice");
  for (const char* value : {"1.0", "1e3", "null", "\"1\"", "true", "9223372036854775808", "1e30"})
    check_step_refused(with("\"step\": 7", std::string("\"step\": ") + value), "'step' must be");
  check_step_refused(with("\"step\": 7", "\"step\": -7"), "'step' must not be negative");
  for (const char* value : {"[]", "[7]", "[[[[]]]]"})
    check_step_refused(with("\"step\": 7", std::string("\"step\": ") + value), "'step'");
  check_step_refused(with("\"step\": 7", "\"step\": {\"step\": 7}"), "an object");
  for (const char* value : {"\"0.5\"", "false"})
    check_step_refused(with("0.5", value), "'accuracy' must be");
  for (const char* value : {"1.0000001", "-1e-9", "2", "-1", "18446744073709551615"})
    check_step_refused(with("0.5", value), "'accuracy' is out of range");
  check_step_refused(with("0.1", "-0.1"), "'seconds' is out of range");
  for (const char* value : {"1e400", "NaN", "Infinity", "-inf", "01", "+1", ".5", "0x10"})
    check_step_refused(with("0.5", value), "byte");
}

TEST_CASE("record: malformed evaluations are refused") {
  const auto with = [](const std::string& from, const std::string& to) {
    return replaced(kEvaluationJson, from, to);
  };
  check_evaluation_refused("{}", "'task' is missing");
  check_evaluation_refused(with("\"S3\"", "3"), "'group' must be a string");
  check_evaluation_refused(with("\"S3\"", "null"), "'group' must be a string");
  check_evaluation_refused(with("\"S3\"", "[\"S3\"]"), "'group' must not be an array");
  check_evaluation_refused(with("\"S3\"", "{}"), "an object stands where none belongs");
  check_evaluation_refused(with("{\"group\": \"S3\"}", "\"S3\""), "'settings' must be an object");
  check_evaluation_refused(with("{\"group\": \"S3\"}", "[]"), "'settings' must not be an array");
  check_evaluation_refused(with("\"S3\"", "\"S3\", \"group\": \"\""), "'group' appears twice");
  check_evaluation_refused(with("\"settings\"", "\"band\""), "'band' is unknown");
  check_evaluation_refused(with("0.75", "\"0.75\""), "'tokens' must be a number");
  check_evaluation_refused(with("\"tokens\"", "\"last_token\""), "'last_token' appears twice");
  check_evaluation_refused(with("{\"whole", "[{\"whole"), "'metrics' must not be an array");
  std::string names;
  for (size_t i = 0; i < kMostNames; ++i)
    names.append("\"").append(std::to_string(i)).append("\": 0, ");
  check_evaluation_refused(with("\"whole_seq", names + "\"whole_seq"), "too many names");
  for (const char* seed : {"-1", "1.0", "18446744073709551616", "null", "\"1\""})
    check_evaluation_refused(with("18446744073709551615", seed), "'seed' must");
  check_evaluation_refused(with("\"length\": 16", "\"length\": -16"), "'length' must not be");
  check_evaluation_refused(with("\"length\": 16, ", ""), "'length' is missing");
  check_evaluation_refused(with("\"length\": 16", "\"task\": 16"), "'task' is unknown");
  check_evaluation_refused(with("\"length\"", "\"sequences\""), "'sequences' appears twice");
  check_evaluation_refused(with(kWilsonJson, "\"wilson_low\": [], "), "array");
  check_evaluation_refused(with(kWilsonJson, "\"wilson_low\": \"\", "), "number");
  check_evaluation_refused(with(kWilsonJson, "\"wilson_high\": 1.5, "), "out of range");
  check_evaluation_refused(with(kWilsonJson, "\"standard_error\": [], "), "array");
  const std::string lengths = std::string(kEvaluationJson).substr(0, with("x", "x").find("{\"len"));
  for (const char* rest : {"1]}", "[]]}", "null]}", "\"a\"]}", "{}]}", "{\"length\": {}}]}"})
    check_evaluation_refused(lengths + rest, "");
  check_evaluation_refused(lengths + "{\"length\": [1]}]}", "'length' must not be an array");
  std::string many;  // fields of an object without its end
  for (int i = 0; i < 100000; ++i) many += "{},";
  check_evaluation_refused(lengths + many, "'length' is missing");
  for (const char* bracket : {"[", "{\"lengths\": ", "{\"task\": "}) {
    std::string deep;
    for (int i = 0; i < 1'000'000; ++i) deep += bracket;
    check_evaluation_refused(deep, "belongs");
  }
}

}  // namespace fprnn::tests
