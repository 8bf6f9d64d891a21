#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/core/build_info.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/run/command_line.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <set>
#include <utility>

namespace fprnn {

std::string flag_of(const std::string& key) {
  std::string flag = "--" + key;
  std::ranges::replace(flag, '_', '-');
  return flag;
}

namespace {

std::string variable_of(const std::string& key) {
  std::string variable = std::string(kVariablePrefix) + key;
  std::ranges::transform(variable, variable.begin(), [](unsigned char c) { return toupper(c); });
  return variable;
}

std::string about_presets(const std::vector<Preset>& presets) {
  std::string text = presets.empty() ? "" : "Presets:\n";
  for (const Preset& preset : presets) {
    text += fmt::format("  {:<9} {}\n", preset.name, preset.about);
    std::string line;
    for (const auto& [key, value] : preset.values) {
      const std::string item = fmt::format(" {}={}", key, value);
      if (line.size() + item.size() > 85)
        text += fmt::format("           {}\n", std::exchange(line, ""));
      line += item;
    }
    text += fmt::format("           {}\n", line);
    for (const Goal& goal : preset.goals)
      text += fmt::format("            must reach {} of at {} {} at length {}\n", goal.metric,
                          name_of(goal.bound), goal.value, goal.length);
  }
  return text +
         "A run of a preset as it is, with any seed, that misses what it must reach exits with 1.\n"
         "\nA flag --some-name is also the variable FPRNN_SOME_NAME and the key \"some_name\" of a "
         "--config file;\nthe flag wins over the variable, that over the file, that over a "
         "preset.\n"
         "Exit codes: 0 done, 1 failed, 2 misused, 130 interrupted.";
}

// Which setting a name may have meant, in the form that the name has.
std::string nearest_to(const std::string& name, const Settings& settings,
                       std::string (*form)(const std::string& key)) {
  const std::string key = nearest(name, settings.keys());
  return did_you_mean(key.empty() ? "" : form(key));
}

// The same of the first flag among arguments that were not understood.
std::string nearest_flag(const std::vector<std::string>& arguments, const Settings& settings) {
  for (const std::string& argument : arguments)
    if (argument.starts_with("--"))
      return nearest_to(argument.substr(2, argument.find('=') - 2), settings, flag_of);
  return "";
}

void describe_flag(CLI::Option& option, const Setting& setting) {
  option.group(setting.title)
      ->description(setting.choices.empty()
                        ? setting.help
                        : fmt::format("{}: {}", setting.help, fmt::join(setting.choices, ", ")))
      ->type_name(setting.is_switch() ? text_of(setting) : "")
      ->default_str(setting.is_switch() ? "" : text_of(setting));
}

// False: help or version was printed.
bool parse_flags(int argc, const char* const* argv, const CommandLine& command, Settings& settings,
                 Said& said) {
  CLI::App app{command.about};
  app.set_version_flag("--version", describe(build_info()));
  app.get_formatter()->column_width(36);
  app.footer(command.choices + about_presets(command.presets));
  add_flags(app, settings, said);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    prepare_help(app, settings, said, command.chosen_by);
    app.exit(success);
    return false;
  } catch (const CLI::ParseError& error) {
    throw UsageError("command line", error.what() + nearest_flag(app.remaining(), settings) +
                                         " (--help lists the flags)");
  }
  return true;
}

// UsageError: a variable has the prefix and is none of the settings.
Said environment(const Settings& settings) {
  std::map<std::string, std::string> key_of;
  for (const std::string& key : settings.keys()) key_of[variable_of(key)] = key;
  Said said;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (!text.starts_with(kVariablePrefix)) continue;
    const size_t end = std::min(text.find('='), text.size());
    const std::string name(text.substr(0, end));
    const auto key = key_of.find(name);
    if (key == key_of.end())
      throw UsageError(name,
                       "there is no such setting" +
                           nearest_to(name.substr(kVariablePrefix.size()), settings, variable_of));
    said[key->second] = text.substr(std::min(end + 1, text.size()));
  }
  return said;
}

const Preset& preset_named(const std::vector<Preset>& presets, const std::string& name) {
  const auto found = std::ranges::find(presets, name, &Preset::name);
  if (found != presets.end()) return *found;
  std::vector<std::string> names;
  for (const Preset& preset : presets) names.push_back(preset.name);
  throw UsageError("command line",
                   fmt::format("preset must be one of {}{}", fmt::join(names, ", "),
                               did_you_mean(nearest(name, names))),
                   std::array{name});
}

}  // namespace

void add_flags(CLI::App& app, const Settings& settings, Said& said) {
  std::set<std::string> there;
  for (const Setting& setting : settings.all()) {
    if (!there.insert(setting.key).second) continue;
    const auto take = [&said, &setting](const std::string& text) {
      said[setting.key] = setting.is_switch() && text.empty() ? "true" : text;
    };
    CLI::Option* option = app.add_option_function<std::string>(flag_of(setting.key), take);
    // Of an optional value CLI11 would take the default for the one that is not there.
    if (setting.is_switch()) option->expected(0, 1);
    describe_flag(*option, setting);
  }
}

void prepare_help(CLI::App& app, Settings& settings, const Said& said,
                  const std::string& chosen_by) {
  const auto chosen = said.find(chosen_by);
  if (chosen != said.end()) settings.set(chosen_by, chosen->second, "command line");
  std::set<std::string> shown;
  for (const Setting& setting : settings.all()) {
    CLI::Option& option = *app.get_option(flag_of(setting.key));
    if (!setting.in_use || (chosen != said.end() && setting.in_use())) {
      if (shown.insert(setting.key).second) describe_flag(option, setting);
    } else if (!shown.contains(setting.key)) {
      option.group("");  // CLI11's way to hide it
    }
  }
}

bool read_command_line(int argc, const char* const* argv, const CommandLine& command,
                       Settings& settings) {
  Said flags;
  if (!parse_flags(argc, argv, command, settings, flags)) return false;
  const Said variables = environment(settings);
  const auto apply = [&](bool actions) {
    for (const Setting& setting : settings.all()) {
      if ((setting.decides == Decides::action) != actions) continue;
      if (const auto said = flags.find(setting.key); said != flags.end())
        settings.set(said->first, said->second, "command line");
      else if (const auto set = variables.find(setting.key); set != variables.end())
        settings.set(set->first, set->second, variable_of(set->first));
    }
  };
  apply(true);
  command.read_files(settings);
  apply(false);
  // The preset's name, which any of them may have given, is known now; its values stand below
  // theirs.
  if (command.preset.empty()) return true;
  const std::string name = command.preset;
  settings.set(preset_named(command.presets, name));
  command.read_files(settings);
  apply(false);
  return true;
}

}  // namespace fprnn
