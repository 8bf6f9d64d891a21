#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/core/check.h>
#include <fprnn/tasks/nearest.h>
#include <fprnn/tasks/settings.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <type_traits>

namespace fprnn {

namespace {

using Json = nlohmann::json;

// Each type: from JSON, from text, and in words.

template <class T>
std::optional<T> number_from(const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

template <class T>
struct Type;

template <>
struct Type<bool> {
  static constexpr const char* name = "true or false";
  static std::optional<bool> json(const Json& value) {
    return value.is_boolean() ? std::optional(value.get<bool>()) : std::nullopt;
  }
  static std::optional<bool> text(const std::string& text) {
    if (text == "true" || text == "on" || text == "1") return true;
    if (text == "false" || text == "off" || text == "0") return false;
    return std::nullopt;
  }
};

template <class Int>
struct Integer {
  static std::optional<Int> json(const Json& value) {
    // A number above 2^63 is unsigned to the JSON library, any other signed or unsigned.
    if (value.is_number_unsigned() && std::in_range<Int>(value.get<uint64_t>()))
      return static_cast<Int>(value.get<uint64_t>());
    if (value.is_number_integer() && !value.is_number_unsigned() &&
        std::in_range<Int>(value.get<int64_t>()))
      return static_cast<Int>(value.get<int64_t>());
    return std::nullopt;
  }
  static std::optional<Int> text(const std::string& text) { return number_from<Int>(text); }
};
template <>
struct Type<int64_t> : Integer<int64_t> {
  static constexpr const char* name = "a whole number";
};
template <>
struct Type<uint64_t> : Integer<uint64_t> {
  static constexpr const char* name = "a whole number from 0";
};

template <>
struct Type<double> {
  static constexpr const char* name = "a finite number";
  static std::optional<double> finite(std::optional<double> value) {
    return value && std::isfinite(*value) ? value : std::nullopt;
  }
  static std::optional<double> json(const Json& value) {
    return value.is_number() ? finite(value.get<double>()) : std::nullopt;
  }
  static std::optional<double> text(const std::string& text) {
    return finite(number_from<double>(text));
  }
};

template <>
struct Type<std::string> {
  static constexpr const char* name = "a text";
  static std::optional<std::string> json(const Json& value) {
    return value.is_string() ? std::optional(value.get<std::string>()) : std::nullopt;
  }
  static std::optional<std::string> text(const std::string& text) { return text; }
};

template <>
struct Type<std::vector<int64_t>> {
  static constexpr const char* name = "whole numbers, comma-separated";
  using List = std::vector<int64_t>;

  static std::optional<List> json(const Json& value) {
    if (!value.is_array()) return std::nullopt;
    List list;
    for (const Json& item : value) {
      const auto number = Type<int64_t>::json(item);
      if (!number) return std::nullopt;
      list.push_back(*number);
    }
    return list;
  }
  static std::optional<List> text(const std::string& text) {
    List list;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      const auto number = number_from<int64_t>(text.substr(begin, end - begin));
      if (!number) return std::nullopt;
      list.push_back(*number);
      begin = end + 1;
    }
    return list;
  }
};

// JSON in which structures do not lie deeper than settings need: what reads and writes it recurses.
Json parsed(const std::string& text, const std::string& source,
            const std::function<void(int, Json::parse_event_t, const Json&)>& notice = {}) {
  // A zero byte, which no JSON contains, would end the text for the parser whatever follows.
  require<UsageError>(text.find('\0') == std::string::npos, source, "JSON contains no zero byte");
  constexpr int kDeepest = 8;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    require<UsageError>(depth < kDeepest, source, "it must not be nested deeply");
    if (notice) notice(depth, event, value);
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& error) {
    throw UsageError(source, std::string("it must be JSON: ") + error.what());
  }
}

bool is_choice(const Setting& setting) {
  return setting.choices.empty() ||
         std::ranges::find(setting.choices, setting.get().get<std::string>()) !=
             setting.choices.end();
}

}  // namespace

void Settings::title(std::string title, Decides decides) {
  title_ = std::move(title);
  decides_ = decides;
}

template <class T>
void Settings::add(std::string key, T& value, std::string help, std::vector<std::string> choices) {
  const auto assign = [&value](const std::optional<T>& read) {
    if (read) value = *read;
    return read.has_value();
  };
  settings_.push_back(
      {.key = std::move(key),
       .help = std::move(help),
       .title = title_,
       .decides = decides_,
       .choices = std::move(choices),
       .is_switch = std::is_same_v<T, bool>,
       .get = [&value] { return Json(value); },
       .set = [assign](const Json& json) { return assign(Type<T>::json(json)); },
       .set_text = [assign](const std::string& text) { return assign(Type<T>::text(text)); },
       .type = Type<T>::name});
}
template void Settings::add(std::string, bool&, std::string, std::vector<std::string>);
template void Settings::add(std::string, int64_t&, std::string, std::vector<std::string>);
template void Settings::add(std::string, uint64_t&, std::string, std::vector<std::string>);
template void Settings::add(std::string, double&, std::string, std::vector<std::string>);
template void Settings::add(std::string, std::string&, std::string, std::vector<std::string>);
template void Settings::add(std::string, std::vector<int64_t>&, std::string,
                            std::vector<std::string>);

Setting& Settings::at(std::string_view key, const std::string& source) {
  const auto found = std::ranges::find(settings_, key, &Setting::key);
  if (found == settings_.end())
    throw UsageError(source, "there is no such setting" + did_you_mean(nearest(key, keys())),
                     std::array{describe(key)});
  return *found;
}

Setting& Settings::written(std::string_view key, const std::string& source) {
  Setting& setting = at(key, source);
  require<UsageError>(setting.decides != Decides::action, source,
                      "this can only be a flag or an environment variable", key);
  return setting;
}

void Settings::check(const Setting& setting, bool fits, const std::string& value,
                     const std::string& source) const {
  if (fits && is_choice(setting)) return;
  std::string wanted = setting.type;
  if (!setting.choices.empty()) {
    wanted = fmt::format("{}", fmt::join(setting.choices, ", "));
    if (fits) wanted += did_you_mean(nearest(setting.get().get<std::string>(), setting.choices));
  }
  throw UsageError(source, fmt::format("{} must be {}", setting.key, wanted), std::array{value});
}

void Settings::assign(Setting& setting, const std::string& text, const std::string& source) {
  check(setting, setting.set_text(text), describe(text), source);
}

void Settings::set(std::string_view key, const std::string& text, const std::string& source) {
  Setting& setting = at(key, source);
  assign(setting, text, source);
  setting.named_by = source;
}

void Settings::set(const Preset& preset) {
  const std::string source = "preset " + preset.name;
  for (const auto& [key, text] : preset.values) assign(at(key, source), text, source);
}

void Settings::set_json(const std::string& text, const std::string& source, Says says) {
  std::set<std::string> keys;
  std::string twice;
  const auto notice = [&](int depth, Json::parse_event_t event, const Json& key) {
    if (event == Json::parse_event_t::key && depth == 1 &&
        !keys.insert(key.get<std::string>()).second)
      twice = key.get<std::string>();
  };
  const Json object = parsed(text, source, notice);
  require<UsageError>(object.is_object(), source, "it must be a JSON object");
  require<UsageError>(twice.empty(), source, "keys must not repeat", twice);
  const bool whole = std::ranges::all_of(settings_, [&](const Setting& setting) {
    return setting.decides != Decides::model || keys.contains(setting.key);
  });
  for (const auto& [key, value] : object.items()) {
    Setting& setting = written(key, source);
    check(setting, setting.set(value), value.dump(-1, ' ', true, Json::error_handler_t::replace),
          source);
    if (says == Says::user && !whole) setting.named_by = source;
  }
}

void Settings::set(const KeyValues& values, const std::string& source) {
  for (const auto& [key, text] : values) {
    Setting& setting = written(key, source);
    check(setting, setting.set(parsed(text, source)), text, source);
  }
}

std::vector<std::string> Settings::keys() const {
  std::vector<std::string> keys;
  for (const Setting& setting : settings_) keys.push_back(setting.key);
  return keys;
}

std::string Settings::to_json() const {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const Setting& setting : settings_)
    if (setting.decides != Decides::action) object[setting.key] = setting.get();
  return object.dump(2) + "\n";
}

KeyValues Settings::values(std::initializer_list<Decides> which) const {
  KeyValues values;
  for (const Setting& setting : settings_)
    if (std::ranges::find(which, setting.decides) != which.end())
      values[setting.key] = setting.get().dump();
  return values;
}

}  // namespace fprnn
