#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/core/check.h>
#include <fprnn/core/settings.h>
#include <fprnn/core/text.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

namespace fprnn {

namespace {

using Json = nlohmann::json;

// Text as JSON of the type that is pointed to; null, or null in a list, where it is not of it.
Json json_from(const std::string& text, const bool*) {
  if (text == "true" || text == "on" || text == "1") return true;
  if (text == "false" || text == "off" || text == "0") return false;
  return nullptr;
}
template <class Number>
Json json_from(const std::string& text, const Number*) {
  const std::optional<Number> number = number_in<Number>(text);
  return number ? Json(*number) : Json();
}
Json json_from(const std::string& text, const std::string*) { return text; }
Json json_from(const std::string& text, const std::vector<int64_t>*) {
  Json list = Json::array();
  for (const std::string& part : split(text, ','))
    list.push_back(json_from(part, static_cast<const int64_t*>(nullptr)));
  return list;
}

// Stores a value if it is of the type of its place.
bool store(bool& place, const Json& value) {
  if (value.is_boolean()) place = value.get<bool>();
  return value.is_boolean();
}
template <std::integral Int>
bool store(Int& place, const Json& value) {
  // A number above 2^63 is unsigned to the JSON library, any other signed or unsigned.
  const bool fits = value.is_number_unsigned()
                        ? std::in_range<Int>(value.get<uint64_t>())
                        : value.is_number_integer() && std::in_range<Int>(value.get<int64_t>());
  if (fits) place = value.get<Int>();
  return fits;
}
bool store(double& place, const Json& value) {
  const bool fits = value.is_number() && std::isfinite(value.get<double>());
  if (fits) place = value.get<double>();
  return fits;
}
bool store(std::string& place, const Json& value) {
  if (value.is_string()) place = value.get<std::string>();
  return value.is_string();
}
bool store(std::vector<int64_t>& place, const Json& value) {
  std::vector<int64_t> list;
  const auto takes = [&](const Json& item) { return store(list.emplace_back(), item); };
  const bool fits = value.is_array() && std::all_of(value.begin(), value.end(), takes);
  if (fits) place = std::move(list);
  return fits;
}

using Fits = std::function<bool(Setting& setting)>;

Fits of_json(const Json& value) {
  return [&value](Setting& setting) {
    return std::visit([&](auto* place) { return store(*place, value); }, setting.value);
  };
}
Fits of_text(const std::string& text) {
  return [&text](Setting& setting) {
    return std::visit([&](auto* place) { return store(*place, json_from(text, place)); },
                      setting.value);
  };
}

Json json_of(const Setting& setting) {
  return std::visit([](const auto* place) { return Json(*place); }, setting.value);
}
const char* type_of(const Setting& setting) {
  constexpr const char* kTypes[] = {
      "true or false",   "a whole number", "a whole number from 0",
      "a finite number", "a text",         "whole numbers, comma-separated"};
  return kTypes[setting.value.index()];
}

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

// Of a value with choices what is none of them; nothing where all is well.
std::optional<std::string> no_choice(const Setting& setting) {
  if (setting.choices.empty()) return std::nullopt;
  const std::string value = text_of(setting);
  for (const std::string& name : setting.several ? split(value, ',') : std::vector{value})
    if (std::ranges::find(setting.choices, name) == setting.choices.end()) return name;
  return std::nullopt;
}

// UsageError: the value, which the setting now has if it is of its type, is none of those it can
// have.
void check_value(const Setting& setting, bool of_type, const std::string& value,
                 const std::string& source) {
  const std::optional<std::string> unknown = of_type ? no_choice(setting) : std::nullopt;
  if (of_type && !unknown) return;
  std::string wanted = type_of(setting);
  if (!setting.choices.empty()) {
    wanted = fmt::format("{}", fmt::join(setting.choices, ", "));
    if (unknown) wanted += did_you_mean(nearest(*unknown, setting.choices));
  }
  throw UsageError(source, fmt::format("{} must be {}", setting.key, wanted), std::array{value});
}

void check_written(const Setting& setting, const std::string& source) {
  require<UsageError>(setting.decides != Decides::action, source,
                      "this can only be a flag or an environment variable", setting.key);
}

}  // namespace

KeyTexts key_texts(std::string_view line) {
  KeyTexts texts;
  for (const std::string& item : split(line, ' '))
    texts.emplace_back(item.substr(0, item.find('=')), item.substr(item.find('=') + 1));
  return texts;
}

std::string_view name_of(Goal::Bound bound) {
  return bound == Goal::Bound::least ? "least" : "most";
}

std::string text_of(const Setting& setting) {
  const Json value = json_of(setting);
  if (value.is_string()) return value.get<std::string>();
  const std::string text = value.dump();
  return value.is_array() ? text.substr(1, text.size() - 2) : text;
}

bool Setting::is_implied() const { return implied && *implied == text_of(*this); }
bool Setting::is_standard() const { return text_of(*this) == standard; }

void Settings::title(std::string title, Decides decides, std::function<bool()> in_use) {
  title_ = std::move(title);
  decides_ = decides;
  in_use_ = std::move(in_use);
}

Setting& Settings::add(Setting setting) {
  for (const Setting& other : settings_)
    require<UsageError>(other.key != setting.key || (other.in_use && setting.in_use &&
                                                     other.value.index() == setting.value.index() &&
                                                     other.decides == setting.decides),
                        "settings", "a key must be one setting, or of one type in several models",
                        setting.key);
  setting.standard = text_of(setting);
  return settings_.emplace_back(std::move(setting));
}

std::vector<Setting*> Settings::of_key(std::string_view key, const std::string& source) {
  std::vector<Setting*> found;
  for (Setting& setting : settings_)
    if (setting.key == key) found.push_back(&setting);
  if (found.empty())
    throw UsageError(source, "there is no such setting" + did_you_mean(nearest(key, keys())),
                     std::array{describe(key)});
  return found;
}

// To all settings of the key that it fits, one at least.
void Settings::assign(std::string_view key, const std::function<bool(Setting&)>& fits,
                      const std::string& value, const std::string& source) {
  const std::vector<Setting*> settings = of_key(key, source);
  for (Setting* setting : settings) try {
      check_value(*setting, fits(*setting), value, source);
      setting->misfit = nullptr;
    } catch (const UsageError&) {
      setting->misfit = std::current_exception();
    }
  if (std::ranges::all_of(settings, [](const Setting* s) { return s->misfit != nullptr; }))
    std::rethrow_exception(settings.front()->misfit);
}

void Settings::set(std::string_view key, const std::string& text, const std::string& source) {
  assign(key, of_text(text), describe(text), source);
  for (Setting* setting : of_key(key, source)) setting->named_by = source;
}

void Settings::set(const Preset& preset) {
  for (const auto& [key, text] : preset.values) {
    assign(key, of_text(text), describe(text), "preset " + preset.name);
    for (Setting* setting : of_key(key, preset.name)) setting->standard = text_of(*setting);
  }
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
  for (const auto& item : object.items()) {
    check_written(*of_key(item.key(), source).front(), source);
    assign(item.key(), of_json(item.value()),
           item.value().dump(-1, ' ', true, Json::error_handler_t::replace), source);
  }
  const bool whole = std::ranges::all_of(written(), [&](const Setting* setting) {
    return setting->decides != Decides::model || setting->implied || keys.contains(setting->key);
  });
  if (says == Says::run || whole) return imply_all_but(keys);
  for (const std::string& key : keys)
    for (Setting* setting : of_key(key, source)) setting->named_by = source;
}

void Settings::set(const KeyValues& values, const std::string& source) {
  std::set<std::string> keys;
  for (const auto& [key, text] : values) {
    check_written(*of_key(key, source).front(), source);
    const Json value = parsed(text, source);
    assign(key, of_json(value), text, source);
    keys.insert(key);
  }
  imply_all_but(keys);
}

void Settings::imply_all_but(const std::set<std::string>& keys) {
  for (Setting& setting : settings_) {
    if (!setting.implied || keys.contains(setting.key)) continue;
    const std::string text(*setting.implied);
    of_text(text)(setting);
  }
}

void Settings::check(const std::string& chosen) const {
  for (const std::string& key : keys()) {
    std::string named_by, refusal = fmt::format("{} has no {}", chosen, key);
    bool refused = true;
    for (const Setting& setting : settings_) {
      if (setting.key != key) continue;
      named_by = setting.named_by;
      if (!setting.is_in_use()) continue;
      if (setting.misfit != nullptr) std::rethrow_exception(setting.misfit);
      const std::string why = setting.refusal ? setting.refusal() : "";
      if (why.empty())
        refused = false;
      else
        refusal = why;
    }
    if (refused && !named_by.empty()) throw UsageError(named_by, refusal);
  }
}

std::vector<std::string> Settings::keys() const {
  std::vector<std::string> keys;
  for (const Setting& setting : settings_)
    if (std::ranges::find(keys, setting.key) == keys.end()) keys.push_back(setting.key);
  return keys;
}

std::vector<const Setting*> Settings::written() const {
  std::vector<const Setting*> written;
  for (const std::string& key : keys()) {
    std::vector<const Setting*> in_use;
    for (const Setting& setting : settings_)
      if (setting.key == key && setting.decides != Decides::action && setting.is_in_use())
        in_use.push_back(&setting);
    const auto as_first = [&](const Setting* s) { return text_of(*s) == text_of(*in_use.front()); };
    if (!in_use.empty() && std::ranges::all_of(in_use, as_first)) written.push_back(in_use.front());
  }
  return written;
}

std::string Settings::to_json() const {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const Setting* setting : written()) object[setting->key] = json_of(*setting);
  return object.dump(2) + "\n";
}

KeyValues Settings::values(std::initializer_list<Decides> which) const {
  KeyValues values;
  for (const Setting* setting : written())
    if (std::ranges::find(which, setting->decides) != which.end() && !setting->is_implied())
      values[setting->key] = json_of(*setting).dump();
  return values;
}

KeyValues Settings::values(std::initializer_list<Decides> which, const KeyValues& saved) const {
  KeyValues values = this->values(which);
  std::set<std::string> idle;
  for (const Setting& setting : settings_)
    if (!setting.is_in_use()) idle.insert(setting.key);
  for (const auto& [key, value] : saved)
    if (idle.contains(key)) values.emplace(key, value);
  return values;
}

}  // namespace fprnn
