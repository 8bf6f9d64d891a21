#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>

namespace fprnn {

namespace {

// "a", "a and b", "a, b and c".
std::string enumerate(std::span<const std::string> items) {
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += i + 1 == items.size() ? " and " : ", ";
    text += items[i];
  }
  return text;
}

}  // namespace

Error::Error(std::string_view tag, std::string_view rule, std::span<const std::string> got)
    // A message is one line and moves no cursor, whatever a file or a name put into it.
    : std::runtime_error(
          printable_line(got.empty() ? fmt::format("[{}] {}", tag, rule)
                                     : fmt::format("[{}] {}, got {}", tag, rule, enumerate(got)))),
      tag_(tag) {}

std::string describe(double value) { return fmt::format("{}", value); }
std::string describe(bool value) { return value ? "true" : "false"; }
std::string describe(std::string_view text) { return fmt::format("'{}'", text); }

}  // namespace fprnn
