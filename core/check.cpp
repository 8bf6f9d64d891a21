#include <fmt/format.h>
#include <fprnn/core/check.h>

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

// A message is one line and moves no cursor, whatever a file or a name put into it.
std::string one_line(std::string text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\n')
      text.replace(i++, 1, "\\n");
    else if (c < ' ' || c == 0x7f)
      text[i] = '?';
  }
  return text;
}

}  // namespace

Error::Error(std::string_view tag, std::string_view rule, std::span<const std::string> got)
    : std::runtime_error(one_line(got.empty()
                                      ? fmt::format("[{}] {}", tag, rule)
                                      : fmt::format("[{}] {}, got {}", tag, rule, enumerate(got)))),
      tag_(tag) {}

std::string describe(double value) { return fmt::format("{}", value); }
std::string describe(bool value) { return value ? "true" : "false"; }
std::string describe(std::string_view text) { return fmt::format("'{}'", text); }

}  // namespace fprnn
