// The settings of a program, each declared once: a flag (--d-model), an environment variable
// (FPRNN_D_MODEL), a key of a JSON file ("d_model"), a line of --help, and the variable it sets.
//
// Where several sources set it the first of these wins: flag, environment, file, preset, default.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fprnn {

// What a setting decides. A checkpoint's weights fit a model with the same settings of `model`;
// training goes on from it with the same of `solver` and `training` too. Those of `action` say what
// to do this time: they are taken from flags and the environment alone, and not written.
enum class Decides { model, solver, training, run, action };

// Key -> value as JSON text.
using KeyValues = std::map<std::string, std::string>;

// A named set of values, each as on the command line.
struct Preset {
  std::string name, about;
  std::vector<std::pair<std::string, std::string>> values;
};

struct Setting {
  std::string key, help, title;
  Decides decides;
  std::vector<std::string> choices;  // none: any
  bool is_switch;                    // true where a flag has no value

  // The value, as JSON and from JSON or a flag's text; false if it has another type or range.
  std::function<nlohmann::json()> get;
  std::function<bool(const nlohmann::json&)> set;
  std::function<bool(const std::string&)> set_text;
  std::string type;           // for messages: "a whole number"
  std::string named_by = {};  // the source in which the user has set it; empty: none
};

// Whether a file is what the user asks for, or the record that a run keeps of all its settings.
enum class Says { user, run };

class Settings {
 public:
  // Those added next stand under this title in --help.
  void title(std::string title, Decides decides);
  // T: bool, int64_t, uint64_t, double, std::string or std::vector<int64_t> (comma-separated).
  // `value` holds the default and must outlive the Settings.
  template <class T>
  void add(std::string key, T& value, std::string help, std::vector<std::string> choices = {});

  // UsageError, with the source: an unknown key, a value of another type or none of the choices.
  // The first names the setting on behalf of the user.
  void set(std::string_view key, const std::string& text, const std::string& source);
  void set(const Preset& preset);
  // An object; keys must not repeat. One with all settings of `model` is a run's record in any case.
  void set_json(const std::string& text, const std::string& source, Says says = Says::user);
  void set(const KeyValues& values, const std::string& source);

  std::string to_json() const;  // all, in order of declaration
  KeyValues values(std::initializer_list<Decides> which) const;
  const std::vector<Setting>& all() const { return settings_; }
  std::vector<std::string> keys() const;

 private:
  Setting& at(std::string_view key, const std::string& source);
  Setting& written(std::string_view key, const std::string& source);  // no action
  void assign(Setting& setting, const std::string& text, const std::string& source);
  void check(const Setting& setting, bool fits, const std::string& value,
             const std::string& source) const;

  std::vector<Setting> settings_;
  std::string title_;
  Decides decides_ = Decides::run;
};

}  // namespace fprnn
