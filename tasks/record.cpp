#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <fprnn/core/lines.h>
#include <fprnn/tasks/label.h>
#include <fprnn/tasks/record.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <variant>

namespace fprnn {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxFile = 64'000'000;  // bytes
constexpr int64_t kLongestLine = 1 << 16;
static_assert(kMostSteps % 2 == 0);
constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A key of the JSON and the member that it stands for: written once, used in both directions.
struct Computed {
  double value;  // from the other members: written, and ignored where it is read
};
using Place =
    std::variant<int64_t*, uint64_t*, double*, std::string*, std::vector<LengthResult>*, Computed>;
struct Field {
  std::string_view key;
  Place place;
  double least = 0, most = kLargest;  // of a number
  bool optional = false;              // where it is read
  bool seen = false;
};
using Fields = std::vector<Field>;

Fields fields(StepMetrics& m) {
  return {{"step", &m.step},
          {"seconds", &m.seconds},
          {"loss", &m.loss, -kLargest},
          {"accuracy", &m.accuracy, 0, 1},
          {"lr", &m.lr},
          {"grad_norm", &m.grad_norm},
          {"iterations_mean", &m.iterations_mean},
          {"iterations_max", &m.iterations_max},
          {"residual_max", &m.residual_max},
          {"unconverged", &m.unconverged},
          {"adjoint_iterations_mean", &m.adjoint_iterations_mean, 0, kLargest, true},
          {"adjoint_iterations_max", &m.adjoint_iterations_max, 0, kLargest, true},
          {"adjoint_residual_max", &m.adjoint_residual_max, 0, kLargest, true},
          {"adjoint_unconverged", &m.adjoint_unconverged, 0, kLargest, true},
          {"skipped", &m.skipped},
          {"tokens_per_second", &m.tokens_per_second}};
}

Fields fields(LengthResult& r) {
  return {{"length", &r.length},
          {"sequences", &r.sequences},
          {"sequence_accuracy", &r.sequence_accuracy, 0, 1},
          {.key = "standard_error", .place = Computed{r.standard_error()}, .optional = true},
          {"token_accuracy", &r.token_accuracy, 0, 1},
          {"last_token_accuracy", &r.last_token_accuracy, 0, 1},
          {"iterations_mean", &r.iterations_mean},
          {"iterations_max", &r.iterations_max},
          {"residual_max", &r.residual_max},
          {"unconverged", &r.unconverged}};
}

Fields fields(Origin& o) {
  return {{.key = "version", .place = &o.version, .optional = true},
          {.key = "commit", .place = &o.commit, .optional = true},
          {.key = "gpu", .place = &o.gpu, .optional = true},
          {.key = "instruction_set", .place = &o.instruction_set, .optional = true},
          {.key = "seed", .place = &o.seed, .optional = true}};
}

Fields joined(Fields first, const Fields& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Fields fields(RunStart& s) { return joined({{"step", &s.step}}, fields(s.origin)); }

Fields fields(Evaluation& e) {
  return joined(joined({{"task", &e.task},
                        {"group", &e.group},
                        {"model", &e.model},
                        {"parameters", &e.parameters},
                        {"device", &e.device},
                        {"solver", &e.solver},
                        {"gradient", &e.gradient},
                        {"train_length", &e.train_length},
                        {"steps", &e.steps},
                        {"train_seconds", &e.train_seconds}},
                       fields(e.origin)),
                {{"lengths", &e.lengths}});
}

// Writing.

std::string members(const Fields& fields, std::string_view separator);

struct Writer {
  std::string operator()(const int64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(const uint64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(const double* value) const { return (*this)(Computed{*value}); }
  std::string operator()(Computed computed) const {
    return std::isfinite(computed.value) ? fmt::format("{}", computed.value) : "null";
  }
  std::string operator()(const std::string* value) const {
    return nlohmann::json(*value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  std::string operator()(std::vector<LengthResult>* lengths) const {
    std::vector<std::string> lines;
    for (LengthResult& result : *lengths)
      lines.push_back(fmt::format("\n    {{{}}}", members(fields(result), ", ")));
    return fmt::format("[{}]", fmt::join(lines, ","));
  }
};

std::string members(const Fields& fields, std::string_view separator) {
  std::string text;
  for (const Field& field : fields)
    text += fmt::format("{}\"{}\": {}", text.empty() ? "" : separator, field.key,
                        std::visit(Writer{}, field.place));
  return text;
}

// Reading. JSON as events, since a document model would accept repeated keys and could take many
// times the memory of a hostile text.

struct Null {};
using Scalar = std::variant<Null, bool, int64_t, uint64_t, double, std::string*>;

// Puts a value where it belongs; what is wrong with it, or nothing.
struct Store {
  const Field& field;

  std::string operator()(int64_t* place, int64_t value) const {
    if (value < 0) return "must not be negative";
    *place = value;
    return {};
  }
  std::string operator()(uint64_t* place, int64_t value) const {
    if (value < 0) return "must not be negative";
    return (*this)(place, static_cast<uint64_t>(value));
  }
  std::string operator()(uint64_t* place, uint64_t value) const {
    return *place = value, std::string();
  }
  std::string operator()(double* place, double value) const {
    if (value < field.least || value > field.most) return "is out of range";
    *place = value;
    return {};
  }
  std::string operator()(double* place, int64_t value) const {
    return (*this)(place, static_cast<double>(value));
  }
  std::string operator()(double* place, uint64_t value) const {
    return (*this)(place, static_cast<double>(value));
  }
  std::string operator()(double* place, Null) const { return *place = kNaN, std::string(); }
  std::string operator()(std::string* place, std::string* value) const {
    return *place = std::move(*value), std::string();
  }
  std::string operator()(Computed, double) const { return {}; }
  std::string operator()(Computed, int64_t) const { return {}; }
  std::string operator()(Computed, uint64_t) const { return {}; }
  std::string operator()(Computed, Null) const { return {}; }
  template <class Place, class Value>
  std::string operator()(Place, Value) const {
    if constexpr (std::is_same_v<Place, int64_t*>) return "must be an integer of 63 bits";
    if constexpr (std::is_same_v<Place, uint64_t*>) return "must be an integer of 64 bits";
    if constexpr (std::is_same_v<Place, std::string*>) return "must be a string";
    if constexpr (std::is_same_v<Place, std::vector<LengthResult>*>) return "must be an array";
    return "must be a number or null";
  }
};

// An object of scalars, of which one field may be an array of such objects.
struct RecordParser : nlohmann::json_sax<nlohmann::json> {
  explicit RecordParser(Fields fields) : outer(std::move(fields)) {}

  Fields outer, inner;
  std::vector<LengthResult>* lengths = nullptr;  // the array that is open
  int depth = 0;                                 // of objects
  Field* field = nullptr;
  std::string problem;

  bool refuse(std::string what) {
    if (problem.empty()) problem = std::move(what);
    return false;
  }
  bool scalar(Scalar value) {
    if (field == nullptr) return refuse("a value stands where an object belongs");
    const std::string wrong = std::visit(Store{*field}, field->place, std::move(value));
    const std::string key(field->key);
    field = nullptr;
    return wrong.empty() || refuse(fmt::format("'{}' {}", key, wrong));
  }

  bool null() override { return scalar(Null{}); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(number_integer_t value) override { return scalar(int64_t{value}); }
  bool number_unsigned(number_unsigned_t value) override {
    constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    return value <= kMost ? scalar(static_cast<int64_t>(value)) : scalar(uint64_t{value});
  }
  bool number_float(number_float_t value, const string_t&) override { return scalar(value); }
  bool string(string_t& value) override { return scalar(&value); }
  bool binary(binary_t&) override { return refuse("binary is not allowed"); }

  bool key(string_t& name) override {
    Fields& fields = depth == 1 ? outer : inner;
    const auto found = std::ranges::find(fields, std::string_view(name), &Field::key);
    if (found == fields.end())
      return refuse(fmt::format("key '{}' is unknown", shortened(printable(name), 40)));
    if (found->seen) return refuse(fmt::format("key '{}' appears twice", name));
    found->seen = true;
    field = &*found;
    return true;
  }
  bool start_object(size_t) override {
    if (depth == 1 && lengths != nullptr) {
      inner = fields(lengths->emplace_back());
    } else if (depth != 0) {
      return refuse("an object stands where none belongs");
    }
    ++depth;
    return true;
  }
  bool end_object() override {
    for (const Field& each : depth == 1 ? outer : inner)
      if (!each.seen && !each.optional) return refuse(fmt::format("key '{}' is missing", each.key));
    --depth;
    return true;
  }
  bool start_array(size_t) override {
    const auto* place =
        field == nullptr ? nullptr : std::get_if<std::vector<LengthResult>*>(&field->place);
    if (field == nullptr) return refuse("an array stands where none belongs");
    if (place == nullptr) return refuse(fmt::format("'{}' must not be an array", field->key));
    lengths = *place;
    field = nullptr;
    return true;
  }
  bool end_array() override {
    lengths = nullptr;
    return true;
  }
  bool parse_error(size_t at, const std::string&,
                   const nlohmann::detail::exception& error) override {
    return refuse(fmt::format("byte {}: {}", at, shortened(printable(error.what()), 200)));
  }
};

template <class Record>
Record from_json(const std::string& text, const std::string& source) {
  // A zero byte, which no JSON contains, would end the text for the parser whatever follows.
  require<FormatError>(text.find('\0') == std::string::npos, "record",
                       "JSON contains no zero byte: source", source);
  Record record;
  RecordParser parser(fields(record));
  const bool parsed = nlohmann::json::sax_parse(text, &parser);
  require<FormatError>(parsed, "record",
                       "a record must be a JSON object of its keys: source and problem", source,
                       parser.problem);
  return record;
}

// A NaN stays.
double larger(double x, double y) { return y > x || std::isnan(y) ? y : x; }

StepMetrics joined(const StepMetrics& earlier, StepMetrics later) {
  later.iterations_max = std::max(later.iterations_max, earlier.iterations_max);
  later.residual_max = larger(later.residual_max, earlier.residual_max);
  later.unconverged = std::max(later.unconverged, earlier.unconverged);
  return later;
}

// One step for each `distance` of them, which doubles when there are too many.
class ThinnedSteps {
 public:
  void add(const StepMetrics& step) {
    if (in_last_ > 0) {
      steps_.back() = joined(steps_.back(), step);
    } else {
      if (steps_.size() == kMostSteps) halve();
      steps_.push_back(step);
    }
    in_last_ = (in_last_ + 1) % distance_;
  }
  std::vector<StepMetrics> take() { return std::move(steps_); }

 private:
  void halve() {
    for (size_t i = 0; i < kMostSteps / 2; ++i)
      steps_[i] = joined(steps_[2 * i], steps_[2 * i + 1]);
    steps_.resize(kMostSteps / 2);
    distance_ *= 2;
  }

  std::vector<StepMetrics> steps_;
  int64_t distance_ = 1, in_last_ = 0;  // steps that one stands for, and that the last does so far
};

}  // namespace

double LengthResult::standard_error() const {
  const double p = sequence_accuracy;
  return sequences > 0 ? std::sqrt(p * (1 - p) / static_cast<double>(sequences)) : kNaN;
}

std::string to_json(const StepMetrics& metrics) {
  StepMetrics copy = metrics;
  return fmt::format("{{{}}}", members(fields(copy), ", "));
}
std::string to_json(const RunStart& start) {
  RunStart copy = start;
  return fmt::format("{{{}}}", members(fields(copy), ", "));
}
std::string to_json(const Evaluation& evaluation) {
  Evaluation copy = evaluation;
  return fmt::format("{{\n  {}\n}}\n", members(fields(copy), ",\n  "));
}

StepMetrics step_metrics_from_json(const std::string& text, const std::string& source) {
  return from_json<StepMetrics>(text, source);
}
Evaluation evaluation_from_json(const std::string& text, const std::string& source) {
  return from_json<Evaluation>(text, source);
}

void for_each_step(
    const std::string& path,
    const std::function<void(const StepMetrics& step, const std::string& line)>& take) {
  int64_t number = 0;
  for_each_line(path, kLongestLine, [&](std::string_view text) {
    const std::string line(text);
    take(step_metrics_from_json(line, fmt::format("{}:{}", path, ++number)), line);
  });
}

RunRecord read_run(const std::string& folder) {
  const fs::path path(folder), metrics = path / "metrics.jsonl", evaluation = path / "eval.json";
  std::error_code ignored;
  const fs::path whole = fs::absolute(path, ignored).lexically_normal();
  RunRecord run{
      .name = (whole.has_filename() ? whole : whole.parent_path()).filename().string(),
      .evaluation = evaluation_from_json(read_file(evaluation, kMaxFile), evaluation.string())};
  ThinnedSteps steps;
  if (fs::exists(fs::symlink_status(metrics, ignored)))
    for_each_step(metrics, [&](const StepMetrics& step, const std::string&) { steps.add(step); });
  run.metrics = steps.take();
  return run;
}

}  // namespace fprnn
