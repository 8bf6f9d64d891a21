// The JSON of record.h, written; record_reader.cpp reads it.
#include <fmt/format.h>
#include <fprnn/tasks/report/record_fields.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace fprnn {

namespace record_fields {

Fields joined(Fields first, const Fields& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Field if_any(std::string_view key, Place place) {
  return {.key = key, .place = place, .optional = true, .if_any = true};
}

Fields fields(LayerSolves& l) {
  return {if_any("layer_iterations", &l.mean), if_any("layer_iterations_median", &l.median),
          if_any("layer_iterations_max", &l.max), if_any("layer_unconverged", &l.unconverged)};
}

Fields fields(StepMetrics& m) {
  return joined(joined({{"step", &m.step},
                        {"seconds", &m.seconds},
                        {"loss", &m.loss, false, -kLargest},
                        {"accuracy", &m.accuracy, false, 0, 1},
                        {"lr", &m.lr},
                        {"grad_norm", &m.grad_norm},
                        {"iterations_mean", &m.iterations_mean},
                        {"iterations_max", &m.iterations_max},
                        {"residual_max", &m.residual_max},
                        {"unconverged", &m.unconverged},
                        {"adjoint_iterations_mean", &m.adjoint_iterations_mean, true},
                        {"adjoint_iterations_max", &m.adjoint_iterations_max, true},
                        {"adjoint_residual_max", &m.adjoint_residual_max, true},
                        {"adjoint_unconverged", &m.adjoint_unconverged, true}},
                       fields(m.layers)),
                {{"skipped", &m.skipped},
                 if_any("in_units", &m.in_units),
                 {"tokens_per_second", &m.tokens_per_second},
                 if_any("validation_loss", &m.validation_loss)});
}

Fields fields(LengthResult& r) {
  return joined({{"length", &r.length},
                 {"sequences", &r.sequences},
                 {"metrics", &r.metrics, true},
                 {"wilson_low", &r.wilson.low, true, 0, 1},
                 {"wilson_high", &r.wilson.high, true, 0, 1},
                 {"iterations_mean", &r.iterations_mean},
                 {"iterations_max", &r.iterations_max},
                 {"residual_max", &r.residual_max},
                 {"unconverged", &r.unconverged}},
                fields(r.layers));
}

Fields fields(PrefixResult& r) { return {{"length", &r.length}, {"metrics", &r.metrics}}; }

Fields fields(Origin& o) {
  return {{"version", &o.version, true},
          {"commit", &o.commit, true},
          {"gpu", &o.machine.gpu, true},
          {"instruction_set", &o.machine.instruction_set, true},
          {"seed", &o.seed, true}};
}

Fields fields(RunStart& s) { return joined({{"step", &s.step}}, fields(s.origin)); }

Fields fields(Protocols& p) {
  return {if_any("prefixes", &p.prefixes), if_any("prefix_exact", &p.exact),
          if_any("bands", &p.bands), if_any("protocols", &p.figures)};
}

Fields fields(Evaluation& e) {
  return joined(joined({{"task", &e.task},
                        {"settings", &e.settings, true},
                        {"model", &e.model},
                        {"parameters", &e.parameters},
                        {"device", &e.device},
                        {"solver", &e.solver},
                        {"gradient", &e.gradient},
                        {"train_length", &e.train_length},
                        {"steps", &e.steps},
                        {"train_seconds", &e.train_seconds}},
                       fields(e.origin)),
                joined({if_any("evaluated_with", &e.changes),
                        if_any("kept", &e.kept),
                        {"caption", &e.caption, true},
                        {"lengths", &e.lengths}},
                       fields(e.protocols)));
}

}  // namespace record_fields

namespace {

using namespace record_fields;
using Json = nlohmann::json;

std::string members(const Fields& fields, std::string_view separator);

std::string text_of(std::integral auto number) { return fmt::format("{}", number); }
std::string text_of(double number) {
  // Without the sign of zero: -0 would be read as the whole number 0.
  return std::isfinite(number) ? fmt::format("{}", number + 0) : "null";
}
std::string text_of(std::optional<double> number) { return number ? text_of(*number) : "null"; }
std::string text_of(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

struct Writer {
  template <class Value>
  std::string operator()(const Value* value) const {
    return text_of(*value);
  }
  template <class Value>
  std::string operator()(const std::vector<std::pair<std::string, Value>>* named) const {
    std::vector<std::string> entries;
    for (const auto& [name, value] : *named)
      entries.push_back(fmt::format("{}: {}", text_of(name), text_of(value)));
    return fmt::format("{{{}}}", fmt::join(entries, ", "));
  }
  std::string operator()(const std::vector<int64_t>* numbers) const {
    return fmt::format("[{}]", fmt::join(*numbers, ", "));
  }
  template <class Result>
  requires requires(Result& result) { fields(result); }
  std::string operator()(std::vector<Result>* results) const {
    std::vector<std::string> lines;
    for (Result& result : *results)
      lines.push_back(fmt::format("\n    {{{}}}", members(fields(result), ", ")));
    return fmt::format("[{}]", fmt::join(lines, ","));
  }
};

bool is_empty(const Place& place) {
  return std::visit(
      [](const auto* value) {
        if constexpr (requires { value->empty(); }) return value->empty();
        if constexpr (requires { value->has_value(); }) return !value->has_value();
        return false;
      },
      place);
}

std::string members(const Fields& fields, std::string_view separator) {
  std::string text;
  for (const Field& field : fields)
    if (!field.if_any || !is_empty(field.place))
      text += fmt::format("{}\"{}\": {}", text.empty() ? "" : separator, field.key,
                          std::visit(Writer{}, field.place));
  return text;
}

template <class Record>
std::string line_of(Record record) {
  return fmt::format("{{{}}}", members(fields(record), ", "));
}

}  // namespace

std::string to_json(const StepMetrics& metrics) { return line_of(metrics); }
std::string to_json(const RunStart& start) { return line_of(start); }
std::string to_json(const Evaluation& evaluation) {
  Evaluation copy = evaluation;
  return fmt::format("{{\n  {}\n}}\n", members(fields(copy), ",\n  "));
}

}  // namespace fprnn
