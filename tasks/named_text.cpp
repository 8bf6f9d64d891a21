#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/markov_text.h>
#include <fprnn/tasks/named_text.h>

#include <array>
#include <cstdio>
#include <filesystem>

namespace fprnn {

namespace fs = std::filesystem;

namespace {

constexpr const char* kBible = "/usr/bin/bible";
constexpr const char* kHeaders = "/usr/include/c++";
constexpr int64_t kMarkovBytes = 4 << 20;

std::string king_james() {
  std::error_code none;
  require<UsageError>(fs::exists(kBible, none), "text",
                      "kjv needs the program bible, Debian's bible-kjv", kBible);
  const std::string command = std::string(kBible) + " -l100000 gen1:1-rev22:21 </dev/null";
  std::FILE* output = ::popen(command.c_str(), "r");
  require<FileError>(output != nullptr, "text", "the program must start", command);
  std::string text;
  std::array<char, 1 << 16> part;
  while (const size_t count = std::fread(part.data(), 1, part.size(), output))
    text.append(part.data(), count);
  const int status = ::pclose(output);
  require<FileError>(status == 0 && !text.empty(), "text", "the program must print a text", command,
                     status);
  return text;
}

// Of the newest version, if there is any.
std::string headers() {
  std::string newest;
  int64_t highest = 0;
  std::error_code error;
  for (fs::directory_iterator entry(kHeaders, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path();
    const int64_t version = number_in<int64_t>(entry->path().filename().string()).value_or(0);
    if (version > highest) highest = version, newest = path;
  }
  return newest;
}

}  // namespace

Text text_named(const std::string& name) {
  constexpr std::string_view kMarkov = "markov";
  if (name == "kjv") return Text(king_james());
  if (name == kMarkov) return Text(MarkovText(0).bytes(kMarkovBytes));
  if (name.starts_with("markov:"))
    if (const auto seed = number_in<uint64_t>(name.substr(kMarkov.size() + 1)))
      return Text(MarkovText(*seed).bytes(kMarkovBytes));
  require<UsageError>(!name.empty(), "text", "it must name a text");
  return Text(split(name, ','));
}

std::string default_text() {
  std::error_code none;
  if (fs::exists(kBible, none)) return "kjv";
  const std::string folder = headers();
  return folder.empty() ? "markov" : folder;
}

}  // namespace fprnn
