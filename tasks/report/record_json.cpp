// The JSON of record.h, written and read.
#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/tasks/report/label.h>
#include <fprnn/tasks/report/record.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <variant>

namespace fprnn {

namespace {

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A key of the JSON and the member that it stands for: written once, used in both directions.
using Place = std::variant<int64_t*, uint64_t*, double*, std::optional<double>*, std::string*,
                           KeyTexts*, NamedValues*, std::vector<LengthResult>*>;
struct Field {
  std::string_view key = {};
  Place place = {};
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
          {.key = "metrics", .place = &r.metrics, .optional = true},
          {.key = "standard_error", .place = &r.standard_error, .optional = true},
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
  return joined(
      joined({{"task", &e.task},
              {.key = "settings", .place = &e.settings, .optional = true},
              {"model", &e.model},
              {"parameters", &e.parameters},
              {"device", &e.device},
              {"solver", &e.solver},
              {"gradient", &e.gradient},
              {"train_length", &e.train_length},
              {"steps", &e.steps},
              {"train_seconds", &e.train_seconds}},
             fields(e.origin)),
      {{.key = "caption", .place = &e.caption, .optional = true}, {"lengths", &e.lengths}});
}

// What files had before metrics had names and tasks settings.
constexpr const char* kOldCaption = "whole sequences right";
struct OldForm {
  std::string group;
  double sequence = 0, token = 0, last_token = 0;
};
Field old_group(OldForm& old) { return {.key = "group", .place = &old.group, .optional = true}; }
Fields old_accuracies(OldForm& old) {
  return {{"sequence_accuracy", &old.sequence, 0, 1, true},
          {"token_accuracy", &old.token, 0, 1, true},
          {"last_token_accuracy", &old.last_token, 0, 1, true}};
}

// Writing.

std::string members(const Fields& fields, std::string_view separator);

std::string text_of(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}
std::string text_of(double value) {
  // Without the sign of zero: -0 would be read as the whole number 0.
  return std::isfinite(value) ? fmt::format("{}", value + 0) : "null";
}

struct Writer {
  std::string operator()(const int64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(const uint64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(const double* value) const { return text_of(*value); }
  std::string operator()(const std::optional<double>* value) const {
    return text_of(value->value_or(kNaN));
  }
  std::string operator()(const std::string* value) const { return text_of(*value); }
  template <class Value>
  std::string operator()(const std::vector<std::pair<std::string, Value>>* named) const {
    std::vector<std::string> entries;
    for (const auto& [name, value] : *named)
      entries.push_back(fmt::format("{}: {}", text_of(name), text_of(value)));
    return fmt::format("{{{}}}", fmt::join(entries, ", "));
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
  template <class Number>
  std::string operator()(std::optional<double>* place,
                         Number value) const requires std::is_arithmetic_v<Number> &&
      (!std::is_same_v<Number, bool>) {
    return (*this)(&place->emplace(), value);
  }
  std::string operator()(std::optional<double>* place, Null) const {
    return place->reset(), std::string();
  }
  std::string operator()(std::string* place, std::string* value) const {
    return *place = std::move(*value), std::string();
  }
  template <class Place, class Value>
  std::string operator()(Place, Value) const {
    if constexpr (std::is_same_v<Place, int64_t*>) return "must be an integer of 63 bits";
    if constexpr (std::is_same_v<Place, uint64_t*>) return "must be an integer of 64 bits";
    if constexpr (std::is_same_v<Place, std::string*>) return "must be a string";
    if constexpr (std::is_same_v<Place, std::vector<LengthResult>*>) return "must be an array";
    if constexpr (std::is_same_v<Place, KeyTexts*> || std::is_same_v<Place, NamedValues*>)
      return "must be an object";
    return "must be a number or null";
  }
};

// An object of scalars, of objects of names and of an array of such objects.
class RecordParser : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit RecordParser(Fields fields) : outer_(std::move(fields)) {
    if (find(outer_, "settings") != nullptr) outer_.push_back(old_group(old_));
  }
  const std::string& problem() const { return problem_; }

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
    if (const auto* texts = std::get_if<KeyTexts*>(&named_)) return add_to(**texts, name);
    if (const auto* numbers = std::get_if<NamedValues*>(&named_)) return add_to(**numbers, name);
    field_ = find(depth_ == 1 ? outer_ : inner_, name);
    if (field_ == nullptr) return refuse_key(name, "is unknown");
    if (field_->seen) return refuse_key(name, "appears twice");
    field_->seen = true;
    return true;
  }
  bool start_object(size_t) override {
    if (field_ != nullptr && std::holds_alternative<KeyTexts*>(field_->place)) {
      named_ = std::get<KeyTexts*>(field_->place);
    } else if (field_ != nullptr && std::holds_alternative<NamedValues*>(field_->place)) {
      named_ = std::get<NamedValues*>(field_->place);
    } else if (depth_ == 1 && lengths_ != nullptr) {
      inner_ = joined(fields(lengths_->emplace_back()), old_accuracies(old_));
    } else if (depth_ != 0) {
      return refuse("an object stands where none belongs");
    }
    field_ = nullptr;
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    if (!std::holds_alternative<std::monostate>(named_)) {
      named_ = std::monostate();
      return true;
    }
    for (const Field& each : depth_ == 0 ? outer_ : inner_)
      if (!each.seen && !each.optional) return refuse_key(each.key, "is missing");
    return depth_ == 0 ? end_record() : end_length();
  }
  bool start_array(size_t) override {
    const auto* place =
        field_ == nullptr ? nullptr : std::get_if<std::vector<LengthResult>*>(&field_->place);
    if (field_ == nullptr) return refuse("an array stands where none belongs");
    if (place == nullptr) return refuse(fmt::format("'{}' must not be an array", field_->key));
    lengths_ = *place;
    field_ = nullptr;
    return true;
  }
  bool end_array() override {
    lengths_ = nullptr;
    return true;
  }
  bool parse_error(size_t at, const std::string&,
                   const nlohmann::detail::exception& error) override {
    return refuse(fmt::format("byte {}: {}", at, shortened(printable(error.what()), 200)));
  }

 private:
  static Field* find(Fields& fields, std::string_view key) {
    const auto found = std::ranges::find(fields, key, &Field::key);
    return found == fields.end() ? nullptr : &*found;
  }
  bool refuse(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
    return false;
  }
  bool refuse_key(std::string_view name, std::string_view why) {
    return refuse(fmt::format("key '{}' {}", shortened(printable(name), 40), why));
  }
  bool scalar(Scalar value) {
    if (field_ == nullptr) return refuse("a value stands where an object belongs");
    const std::string wrong = std::visit(Store{*field_}, field_->place, std::move(value));
    const std::string key = shortened(printable(field_->key), 40);
    field_ = nullptr;
    return wrong.empty() || refuse(fmt::format("'{}' {}", key, wrong));
  }
  // The next value belongs to that name.
  template <class Value>
  bool add_to(std::vector<std::pair<std::string, Value>>& named, const std::string& name) {
    for (const auto& entry : named)
      if (entry.first == name) return refuse_key(name, "appears twice");
    if (named.size() == kMostNames) return refuse("an object has too many names");
    auto& [key, value] = named.emplace_back(name, Value());
    entry_ = {.key = key, .place = &value, .least = -kLargest};
    field_ = &entry_;
    return true;
  }
  bool end_record() {
    Field* settings = find(outer_, "settings");
    if (settings == nullptr) return true;
    const bool old = find(outer_, "group")->seen;
    if (old == settings->seen)
      return refuse_key(old ? "group" : "settings", old ? "is unknown" : "is missing");
    if (!old) return true;
    if (!old_.group.empty())
      std::get<KeyTexts*>(settings->place)->emplace_back("group", old_.group);
    *std::get<std::string*>(find(outer_, "caption")->place) = kOldCaption;
    return true;
  }
  bool end_length() {
    const bool old = find(inner_, "sequence_accuracy")->seen;
    if (old == find(inner_, "metrics")->seen)
      return old ? refuse_key("metrics", "is unknown") : refuse_key("metrics", "is missing");
    for (const char* key : {"token_accuracy", "last_token_accuracy"})
      if (find(inner_, key)->seen != old) return refuse_key(key, old ? "is missing" : "is unknown");
    if (!old) return true;
    LengthResult& result = lengths_->back();
    result.metrics = {{"whole_sequences", old_.sequence},
                      {"tokens", old_.token},
                      {"last_token", old_.last_token}};
    result.standard_error = standard_error(old_.sequence, static_cast<double>(result.sequences));
    return true;
  }

  Fields outer_, inner_;
  OldForm old_;
  std::vector<LengthResult>* lengths_ = nullptr;                      // the array that is open
  std::variant<std::monostate, KeyTexts*, NamedValues*> named_ = {};  // the object that is open
  Field entry_;                                                       // of that
  int depth_ = 0;                                                     // of objects
  Field* field_ = nullptr;
  std::string problem_;
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
                       parser.problem());
  return record;
}

}  // namespace

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

}  // namespace fprnn
