// The command line and the environment, put together with files and presets.
#pragma once

#include <fprnn/core/settings.h>

namespace CLI {
class App;
}

namespace fprnn {

struct CommandLine {
  std::string about;  // first line of --help
  std::vector<Preset> presets;
  const std::string& preset;  // the variable of the setting that names one, "" for none
  // Applies what files say; by then the settings of `action` are known.
  std::function<void(Settings&)> read_files;
  // The key of a setting on which others depend, if any. --help shows these where that one is named
  // beside it, and otherwise `choices` alone, whole lines that say so.
  std::string chosen_by = {}, choices = {};
};

// Sets the settings from all sources in order of their rank. False if --help or --version was asked
// for and has been printed. UsageError: an unknown flag, FPRNN_ variable or preset, and what
// Settings::set refuses.
bool read_command_line(int argc, const char* const* argv, const CommandLine& command,
                       Settings& settings);

std::string flag_of(const std::string& key);            // --some-key
constexpr std::string_view kVariablePrefix = "FPRNN_";  // of the environment's settings

// For programs with a command line of their own.
using Said = std::map<std::string, std::string>;  // key -> text
// A flag for each key, which puts what is said into `said`. Both must outlive the app's parsing.
void add_flags(CLI::App& app, const Settings& settings, Said& said);
// Before help is printed: of settings that are not always in use those in use are shown, with their
// own help and defaults, if `said` names the one that they depend on. UsageError: what it says of
// it is refused.
void prepare_help(CLI::App& app, Settings& settings, const Said& said,
                  const std::string& chosen_by);

}  // namespace fprnn
