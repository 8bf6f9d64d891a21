#include <fprnn/core/check.h>
#include <fprnn/core/real.h>
#include <fprnn/models/checkpoint_state.h>

#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <set>
#include <variant>

namespace fprnn {

namespace {

constexpr uint64_t kFormat = 1;
constexpr int64_t kMaxCount = int64_t{1} << 53;
constexpr const char* kConfiguration = "configuration";
constexpr const char* kData = "data";  // may be missing

// As events, since a document model would accept repeated keys. The only structure accepted is an
// object of numbers and strings, and in it one object of strings, the configuration. Then the
// fields are taken one by one.
struct StateParser : nlohmann::json_sax<nlohmann::json> {
  explicit StateParser(const std::string& source) : source(source) {}

  const std::string& source;
  std::map<std::string, std::variant<uint64_t, double, std::string>> fields;
  Configuration configuration;
  std::string problem;

  int depth = 0;
  std::string name;
  std::set<std::string> names, options;

  bool refuse(std::string what) {
    if (problem.empty()) problem = std::move(what);
    return false;
  }
  template <class Value>
  bool field(Value value) {
    if (depth != 1) return refuse("a number stands where none belongs, after key '" + name + "'");
    fields[name] = value;
    return true;
  }

  bool null() override { return refuse("null is not allowed"); }
  bool boolean(bool) override { return refuse("booleans are not allowed"); }
  bool binary(binary_t&) override { return refuse("binary is not allowed"); }
  bool start_array(size_t) override { return refuse("arrays are not allowed"); }
  bool end_array() override { return refuse("arrays are not allowed"); }
  bool number_integer(number_integer_t) override { return refuse("numbers must not be negative"); }
  bool number_unsigned(number_unsigned_t value) override { return field(uint64_t{value}); }
  bool number_float(number_float_t value, const string_t&) override { return field(value); }
  bool string(string_t& value) override {
    if (depth == 0) return refuse("a string stands where an object belongs");
    if (depth == 1)
      fields[name] = value;
    else
      configuration[name] = value;
    return true;
  }
  bool start_object(size_t) override {
    if (depth == 2 || (depth == 1 && name != kConfiguration))
      return refuse("an object stands where none belongs, after key '" + name + "'");
    ++depth;
    return true;
  }
  bool end_object() override {
    --depth;
    return true;
  }
  bool key(string_t& value) override {
    if (!(depth == 1 ? names : options).insert(value).second)
      return refuse("key '" + value + "' appears twice");
    name = value;
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    return refuse(error.what());
  }

  template <class Value>
  Value take(const char* key) {
    const auto found = fields.find(key);
    check(found != fields.end(), "the key must be there", key);
    const Value* value = std::get_if<Value>(&found->second);
    check(value != nullptr, "the value must have the type of its key", key);
    Value taken = *value;
    fields.erase(found);
    return taken;
  }
  int64_t count(const char* key) {
    const uint64_t value = take<uint64_t>(key);
    check(value <= uint64_t{kMaxCount}, "the number must be at most 2^53", key);
    return static_cast<int64_t>(value);
  }
  // A whole number of seconds may be written as one.
  double seconds(const char* key) {
    const auto found = fields.find(key);
    if (found != fields.end() && std::holds_alternative<uint64_t>(found->second))
      return static_cast<double>(take<uint64_t>(key));
    const double value = take<double>(key);
    check(value >= 0 && std::isfinite(value), "the number must be finite and not negative", key);
    return value;
  }
  void finish() const {
    check(names.contains(kConfiguration), "the key must be there", kConfiguration);
    check(!fields.contains(kConfiguration), "the value must be an object", kConfiguration);
    if (!fields.empty()) check(false, "the key must be known", fields.begin()->first);
  }
  void check(bool ok, std::string_view rule, std::string_view key) const {
    require<FormatError>(ok, "checkpoint", std::string(rule) + ": file and key", source, key);
  }
};

}  // namespace

std::string to_json(const CheckpointState& state) {
  for (const int64_t count : {state.step, state.cursor, state.skipped})
    require<ValueError>(count >= 0 && count <= kMaxCount, "checkpoint",
                        "step, cursor and skipped steps must be in [0, 2^53]", count);
  require<ValueError>(state.seconds >= 0 && std::isfinite(state.seconds), "checkpoint",
                      "seconds must be finite and not negative", state.seconds);
  nlohmann::ordered_json json{{"format", kFormat},
                              {"step", state.step},
                              {"seed", state.seed},
                              {"stream", state.stream},
                              {"cursor", state.cursor},
                              {"skipped", state.skipped},
                              {"seconds", state.seconds},
                              {"real", kDouble ? "double" : "float"},
                              {kConfiguration, nlohmann::ordered_json(state.configuration)}};
  if (!state.data.empty()) json[kData] = state.data;
  try {
    return json.dump(2) + "\n";
  } catch (const nlohmann::json::type_error& error) {
    throw ValueError("checkpoint", "the configuration and the data's name must be UTF-8",
                     std::array{describe(error.what())});
  }
}

CheckpointState checkpoint_state_from_json(const std::string& text, const std::string& source) {
  // A zero byte, which no JSON contains, would end the text for the parser whatever follows.
  require<FormatError>(text.starts_with('{') && text.find('\0') == std::string::npos, "checkpoint",
                       "the state must start with { and contain no zero byte", source);
  StateParser parsed(source);
  const bool sound = nlohmann::json::sax_parse(text, &parsed);
  require<FormatError>(sound, "checkpoint", "the state must be JSON of its form: file and problem",
                       source, parsed.problem);
  const auto format = parsed.take<uint64_t>("format");
  require<FormatError>(format == kFormat, "checkpoint", "the format must be 1: file and format",
                       source, format);
  CheckpointState state;
  state.step = parsed.count("step");
  state.seed = parsed.take<uint64_t>("seed");
  state.stream = parsed.take<uint64_t>("stream");
  state.cursor = parsed.count("cursor");
  state.skipped = parsed.count("skipped");
  state.seconds = parsed.seconds("seconds");
  state.real = parsed.take<std::string>("real");
  parsed.check(state.real == "float" || state.real == "double",
               "the value must be \"float\" or \"double\"", "real");
  if (parsed.fields.contains(kData)) state.data = parsed.take<std::string>(kData);
  parsed.finish();
  state.configuration = std::move(parsed.configuration);
  return state;
}

}  // namespace fprnn
