#include <fmt/format.h>
#include <fprnn/tasks/report/label.h>

#include <algorithm>
#include <map>

namespace fprnn {

namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// The bytes of the first `count` code points.
size_t bytes_of(const std::string& text, int64_t count) {
  size_t at = 0;
  for (; at < text.size(); ++at)
    if (!continues(text[at]) && count-- == 0) break;
  return at;
}

// How much all of the names have in common at their beginning, up to the end of a word.
size_t common_beginning(const std::vector<std::string>& names) {
  size_t common = names[0].size();
  for (const std::string& name : names) {
    const auto end = std::ranges::mismatch(names[0], name).in1;
    common = std::min(common, static_cast<size_t>(end - names[0].begin()));
  }
  const size_t separator = names[0].substr(0, common).find_last_of(" _-./,");
  return separator == std::string::npos ? 0 : separator + 1;
}

}  // namespace

int64_t width(std::string_view text) {
  return std::ranges::count_if(text, [](char byte) { return !continues(byte); });
}

std::string shortened(const std::string& text, int64_t most) {
  const int64_t length = width(text);
  if (length <= most) return text;
  const int64_t kept = std::max<int64_t>(most - 2, 0), head = kept / 2;
  return text.substr(0, bytes_of(text, head)) + ".." +
         text.substr(bytes_of(text, length - (kept - head)));
}

std::vector<std::string> run_labels(std::span<const RunRecord> runs, int64_t most) {
  std::vector<std::string> names;
  for (const RunRecord& run : runs)
    names.push_back(printable(run.name.empty() ? run.evaluation.model : run.name));
  const bool long_names =
      std::ranges::any_of(names, [&](const std::string& name) { return width(name) > most; });
  const size_t common = long_names && names.size() > 1 ? common_beginning(names) : 0;
  std::map<std::string, int> taken;
  for (std::string& name : names) {
    name = shortened(name.size() > common ? name.substr(common) : name, most);
    const int times = ++taken[name];
    if (times > 1) name = shortened(name, most - 4) + fmt::format(" ({})", times);
  }
  return names;
}

std::string problem_of(const KeyTexts& settings) {
  std::string problem;
  for (const auto& [key, value] : settings) {
    const bool number = value.find_first_not_of("0123456789.,-+e") == std::string::npos;
    const bool on_or_off = value == "true" || value == "false";
    problem += fmt::format("{}{}{}", problem.empty() ? "" : ", ",
                           number || on_or_off ? key + " " : "", value);
  }
  return problem;
}

}  // namespace fprnn
