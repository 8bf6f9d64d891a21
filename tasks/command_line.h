// The command line and the environment, put together with files and presets.
#pragma once

#include <fprnn/tasks/settings.h>

namespace fprnn {

struct CommandLine {
  std::string about;  // first line of --help
  std::vector<Preset> presets;
  const std::string& preset;  // the variable of the setting that names one, "" for none
  // Applies what files say; by then the settings of `action` are known.
  std::function<void(Settings&)> read_files;
};

// Sets the settings from all sources in order of their rank. False if --help or --version was asked
// for and has been printed. UsageError: an unknown flag, FPRNN_ variable or preset, and what
// Settings::set refuses.
bool read_command_line(int argc, const char* const* argv, const CommandLine& command,
                       Settings& settings);

}  // namespace fprnn
