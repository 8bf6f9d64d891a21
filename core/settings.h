// The settings of a program, each declared once: a flag (--d-model), an environment variable
// (FPRNN_D_MODEL), a key of a JSON file ("d_model"), a line of --help, and the variable it sets.
//
// Where several sources set it the first of these wins: flag, environment, file, preset, default.
//
// A setting may be in use only while others have certain values: a model's own, while that model is
// chosen. Several models may have settings of one key, each with a variable, a default and choices
// of its own; what is said of the key is said to all of them.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace fprnn {

// What a setting decides. A checkpoint's weights fit a model with the same settings of `model`;
// training goes on from it with the same of `solver` and `training` too. Those of `action` say what
// to do this time: they are taken from flags and the environment alone, and not written.
enum class Decides { model, solver, training, run, action };

// Key -> value as JSON text.
using KeyValues = std::map<std::string, std::string>;

// Keys with values, each as on the command line.
using KeyTexts = std::vector<std::pair<std::string, std::string>>;
KeyTexts key_texts(std::string_view line);  // from "lr=1e-3 betas=0.9,0.95"

// What a run is to reach: a value of a metric at a length that is at least this one, or at most.
struct Goal {
  // Whether the value is to be at least, or at most, the goal's.
  enum class Bound { least, most };
  std::string metric;
  int64_t length = 0;
  double value = 0;
  Bound bound = Bound::least;
};

std::string_view name_of(Goal::Bound bound);  // "least", "most"

// A named set of values.
struct Preset {
  std::string name, about;  // what users say, and a line of help
  KeyTexts values;
  std::vector<Goal> goals = {};  // of the preset as it is (tasks/run/goals.h)
};

// A setting as it was declared, and what has become of it.
struct Setting {
  std::string key, help, title;  // as in JSON; of --help, and under which title
  Decides decides;
  std::vector<std::string> choices;  // none: any
  bool several = false;              // the value is a comma-separated list of choices
  // The variable that it sets.
  std::variant<bool*, int64_t*, uint64_t*, double*, std::string*, std::vector<int64_t>*> value;
  std::function<bool()> in_use = {};  // unset: always
  // Why it does nothing beside other values, as "dplr has no mixer_normalisation"; empty: it does.
  // Only a user who names it is told so.
  std::function<std::string()> refusal = {};
  // The value that checkpoints and results say by leaving the key out, as they and the configurations of
  // runs from before there was the setting do, whatever defaults and presets say now; a literal.
  // Unset: none.
  std::optional<std::string_view> implied = {};
  // Of a model: its weights fit whatever the value is, so that an evaluation may have another.
  bool fits_any = false;

  std::string standard = {};       // the value, as text, that defaults and presets give it
  std::string named_by = {};       // the source in which the user has set it; empty: none
  std::exception_ptr misfit = {};  // what is wrong with a value that fits others of this key
  bool is_switch() const { return std::holds_alternative<bool*>(value); }  // a flag without value
  // Whether what others are set to lets it do something.
  bool is_in_use() const { return !in_use || in_use(); }
  bool is_implied() const;   // whether its value is the implied one
  bool is_standard() const;  // as if nobody had set it, but by a preset
};
std::string text_of(const Setting& setting);  // the value as on the command line

// Whether a file is what the user asks for, or the record that a run keeps of all its settings.
enum class Says { user, run };

class Settings {
 public:
  // Those added next stand under this title in --help and are in use while in_use() holds.
  void title(std::string title, Decides decides, std::function<bool()> in_use = {});
  // T: bool, int64_t, uint64_t, double, std::string or std::vector<int64_t> (comma-separated).
  // `value` holds the default and must outlive the Settings. The reference holds until the next.
  template <class T>
  Setting& add(std::string key, T& value, std::string help, std::vector<std::string> choices = {}) {
    return add(Setting{.key = std::move(key),
                       .help = std::move(help),
                       .title = title_,
                       .decides = decides_,
                       .choices = std::move(choices),
                       .value = &value,
                       .in_use = in_use_});
  }
  // Of the same title as those before. UsageError: there is such a key that is always in use or has
  // a value of another type.
  Setting& add(Setting setting);

  // UsageError, with the source: an unknown key, a value of another type or none of the choices.
  // The first names the setting on behalf of the user.
  void set(std::string_view key, const std::string& text, const std::string& source);
  void set(const Preset& preset);
  // An object; keys must not repeat. One with all settings of `model`, but for those that can be
  // implied, is a run's record in any case.
  void set_json(const std::string& text, const std::string& source, Says says = Says::user);
  void set(const KeyValues& values, const std::string& source);
  // Once all is set. UsageError: the user named a setting that `chosen` does not have or that does
  // nothing beside other values; or one in use has a value that only others of its key can have.
  void check(const std::string& chosen) const;

  // Those in use, in order of declaration. A key of which those in use have different values, each
  // its default, is left out.
  std::string to_json() const;
  // For a checkpoint: of these without the implied.
  KeyValues values(std::initializer_list<Decides> which) const;
  // A checkpoint's values, with those of keys that are there but not in use taken from `saved`.
  KeyValues values(std::initializer_list<Decides> which, const KeyValues& saved) const;
  const std::vector<Setting>& all() const { return settings_; }
  std::vector<std::string> keys() const;  // each once

 private:
  std::vector<Setting*> of_key(std::string_view key, const std::string& source);
  // Where fits(setting) stores the value.
  void assign(std::string_view key, const std::function<bool(Setting&)>& fits,
              const std::string& value, const std::string& source);
  // What a record that has these keys says of the others.
  void imply_all_but(const std::set<std::string>& keys);
  std::vector<const Setting*> written() const;

  std::vector<Setting> settings_;
  std::string title_;
  Decides decides_ = Decides::run;
  std::function<bool()> in_use_;
};

}  // namespace fprnn
