// Text shown to people, which may come from files and names, so that it can contain anything; and
// text that people write.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fprnn {

// The text as one line of valid UTF-8, with a '?' for each control or direction character.
std::string printable(std::string_view text);
// The same for several lines, which keep their ends.
std::string printable_lines(std::string_view text);
// The same as one line, with \n for each end of a line.
std::string printable_line(std::string_view text);

// Whether the bytes are UTF-8.
bool is_utf8(std::string_view text);
// The text, but with \xHH for each byte that is no UTF-8.
std::string escaped(std::string_view text);

// The code points of printable text.
int64_t width(std::string_view text);
// At most so many code points of printable text: from a longer one the middle is left out.
std::string shortened(const std::string& text, int64_t most);

// The parts between the separators, which may be empty: one more than there are separators.
std::vector<std::string> split(std::string_view text, char separator);

// The number that the whole text is, in C++'s notation; nothing where it is none that fits.
template <class Number>
std::optional<Number> number_in(std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

// Which of some names a mistyped one was meant to be, or nothing where none is near. For every four
// letters one may be missing, added, replaced or exchanged with its neighbour; upper and lower case
// are the same, and so are - and _.
std::string nearest(std::string_view name, std::span<const std::string> names);

// " (did you mean steps?)", to be added to a message; nothing for nothing.
std::string did_you_mean(const std::string& name);

}  // namespace fprnn
