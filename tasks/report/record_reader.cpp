// The JSON of record.h, read. JSON as events, since a document model would accept repeated keys and could take
// many times the memory of a hostile text.
#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/record_fields.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace fprnn {

namespace {

using namespace record_fields;
using Json = nlohmann::json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// What files had before metrics had names and tasks settings, and a standard error until it became
// an interval.
struct OldForm {
  std::string group;
  double sequence = 0, token = 0, last_token = 0;
  std::optional<double> standard_error;

  Field of_evaluation() { return {"group", &group, true}; }
  Fields of_length() {
    return {{"sequence_accuracy", &sequence, true, 0, 1},
            {"token_accuracy", &token, true, 0, 1},
            {"last_token_accuracy", &last_token, true, 0, 1},
            {"standard_error", &standard_error, true}};
  }
};

// Puts a value where it belongs; what is wrong with it, or nothing.
struct Store {
  const Field& field;
  const Json& value;  // no structure

  template <std::integral Int>
  std::string operator()(Int* place) const {
    if (value.is_number_integer() && !value.is_number_unsigned() && value.get<int64_t>() < 0)
      return "must not be negative";
    if (!value.is_number_integer() || !std::in_range<Int>(value.get<uint64_t>()))
      return fmt::format("must be an integer of {} bits", std::numeric_limits<Int>::digits);
    *place = value.get<Int>();
    return {};
  }
  std::string operator()(double* place) const {
    if (!value.is_number() && !value.is_null()) return "must be a number or null";
    const double number = value.is_null() ? kNaN : value.get<double>();
    if (number < field.least || number > field.most) return "is out of range";
    *place = number;
    return {};
  }
  std::string operator()(std::optional<double>* place) const {
    place->reset();
    return value.is_null() ? std::string() : (*this)(&place->emplace());
  }
  std::string operator()(std::string* place) const {
    if (!value.is_string()) return "must be a string";
    *place = value.get<std::string>();
    return {};
  }
  std::string operator()(KeyTexts*) const { return "must be an object"; }
  std::string operator()(NamedValues*) const { return "must be an object"; }
  std::string operator()(const void*) const { return "must be an array"; }
};

// An object of scalars, of objects of names and of arrays, of such objects or of whole numbers.
class RecordParser : public nlohmann::json_sax<Json> {
 public:
  explicit RecordParser(Fields fields) : outer_(std::move(fields)) {
    if (find(outer_, "settings") != nullptr) outer_.push_back(old_.of_evaluation());
  }
  const std::string& problem() const { return problem_; }

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(number_integer_t value) override { return scalar(value); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(value); }
  bool number_float(number_float_t value, const string_t&) override { return scalar(value); }
  bool string(string_t& value) override { return scalar(std::move(value)); }
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
    if (field_ != nullptr && (std::holds_alternative<KeyTexts*>(field_->place) ||
                              std::holds_alternative<NamedValues*>(field_->place))) {
      named_ = field_->place;
    } else if (auto* lengths = open<LengthResult>(); depth_ == 1 && lengths != nullptr) {
      inner_ = joined(fields(lengths->emplace_back()), old_.of_length());
    } else if (auto* prefixes = open<PrefixResult>(); depth_ == 1 && prefixes != nullptr) {
      inner_ = fields(prefixes->emplace_back());
    } else if (depth_ != 0) {
      return refuse("an object stands where none belongs");
    }
    field_ = nullptr;
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    if (std::exchange(named_, Place()) != Place()) return true;
    for (const Field& each : depth_ == 0 ? outer_ : inner_)
      if (!each.seen && !each.optional) return refuse_key(each.key, "is missing");
    if (depth_ == 0) return end_record();
    return open<LengthResult>() == nullptr || end_length();
  }
  bool start_array(size_t) override {
    if (field_ == nullptr) return refuse("an array stands where none belongs");
    array_ = *std::exchange(field_, nullptr);
    return open<LengthResult>() != nullptr || open<PrefixResult>() != nullptr ||
           open<int64_t>() != nullptr ||
           refuse(fmt::format("'{}' must not be an array", array_.key));
  }
  bool end_array() override {
    array_ = {};
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
  // The array that is open, if its elements are these.
  template <class Element>
  std::vector<Element>* open() const {
    const auto* array = std::get_if<std::vector<Element>*>(&array_.place);
    return array == nullptr ? nullptr : *array;
  }
  bool refuse(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
    return false;
  }
  bool refuse_key(std::string_view name, std::string_view why) {
    return refuse(fmt::format("key '{}' {}", shortened(printable(name), 40), why));
  }
  bool scalar(const Json& value) {
    if (auto* numbers = open<int64_t>())
      field_ = &(entry_ = {array_.key, &numbers->emplace_back()});
    if (field_ == nullptr) return refuse("a value stands where an object belongs");
    const Field& field = *std::exchange(field_, nullptr);
    const std::string wrong = std::visit(Store{field, value}, field.place);
    return wrong.empty() ||
           refuse(fmt::format("'{}' {}", shortened(printable(field.key), 40), wrong));
  }
  // The next value belongs to that name.
  template <class Value>
  bool add_to(std::vector<std::pair<std::string, Value>>& named, const std::string& name) {
    for (const auto& entry : named)
      if (entry.first == name) return refuse_key(name, "appears twice");
    if (named.size() == kMostNames) return refuse("an object has too many names");
    auto& [key, value] = named.emplace_back(name, Value());
    entry_ = {key, &value, false, -kLargest};
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
    *std::get<std::string*>(find(outer_, "caption")->place) = "whole sequences right";
    return true;
  }
  bool end_length() {
    const bool old = find(inner_, "sequence_accuracy")->seen;
    if (old == find(inner_, "metrics")->seen)
      return old ? refuse_key("metrics", "is unknown") : refuse_key("metrics", "is missing");
    for (const char* key : {"token_accuracy", "last_token_accuracy"})
      if (find(inner_, key)->seen != old) return refuse_key(key, old ? "is missing" : "is unknown");
    LengthResult& result = open<LengthResult>()->back();
    if (old)
      result.metrics = {{"whole_sequences", old_.sequence},
                        {"tokens", old_.token},
                        {"last_token", old_.last_token}};
    const bool had_error = std::exchange(old_.standard_error, std::nullopt).has_value();
    if (old || (had_error && !result.metrics.empty()))
      result.wilson =
          wilson_interval(result.metrics.front().second, static_cast<double>(result.sequences));
    return true;
  }

  Fields outer_, inner_;
  OldForm old_;
  Field array_;    // that is open
  Place named_;    // the object of names that is open
  Field entry_;    // of that or of the numbers
  int depth_ = 0;  // of objects
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
  const bool parsed = Json::sax_parse(text, &parser);
  require<FormatError>(parsed, "record",
                       "a record must be a JSON object of its keys: source and problem", source,
                       parser.problem());
  return record;
}

}  // namespace

StepMetrics step_metrics_from_json(const std::string& text, const std::string& source) {
  return from_json<StepMetrics>(text, source);
}
Evaluation evaluation_from_json(const std::string& text, const std::string& source) {
  return from_json<Evaluation>(text, source);
}

}  // namespace fprnn
