#include <fprnn/core/text.h>

#include <algorithm>
#include <bit>
#include <cctype>

namespace fprnn {

namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

struct Decoded {
  uint32_t code = 0;
  size_t bytes = 0;  // 0: no UTF-8
};

Decoded decode(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const size_t ones = std::countl_one(first), bytes = std::max<size_t>(ones, 1);
  if (ones == 1 || bytes > 4 || bytes > text.size()) return {};
  uint32_t code = first & (0xFFU >> (ones + 1));
  for (size_t i = 1; i < bytes; ++i) {
    if (!continues(text[i])) return {};
    code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
  }
  constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};  // below, fewer bytes would do
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code < kLeast[bytes - 1] || surrogate || code > 0x10FFFF ? Decoded{}
                                                                  : Decoded{code, bytes};
}

// Neither controls, separators of lines, changes of direction, nor what XML forbids.
bool shows(uint32_t code) {
  return code >= 0x20 && !(code >= 0x7F && code <= 0x9F) && !(code >= 0x200B && code <= 0x200F) &&
         !(code >= 0x2028 && code <= 0x202E) && !(code >= 0x2060 && code <= 0x206F) &&
         code != 0xFEFF && !(code >= 0xFFF9 && code <= 0xFFFF) && (code & 0xFFFE) != 0xFFFE;
}

// With `line_end` for each end of a line.
std::string cleaned(std::string_view text, std::string_view line_end) {
  std::string clean;
  while (!text.empty()) {
    const Decoded next = decode(text);
    const size_t bytes = std::max<size_t>(next.bytes, 1);
    clean += text[0] == '\n'                      ? line_end
             : next.bytes > 0 && shows(next.code) ? text.substr(0, bytes)
                                                  : "?";
    text.remove_prefix(bytes);
  }
  return clean;
}

// The bytes of the first `count` code points.
size_t bytes_of(const std::string& text, int64_t count) {
  size_t at = 0;
  for (; at < text.size(); ++at)
    if (!continues(text[at]) && count-- == 0) break;
  return at;
}

std::string folded(std::string_view name) {
  std::string folded(name);
  for (char& c : folded)
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return folded;
}

// How many letters must be inserted, removed, replaced or exchanged with the next one.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> two_before, before, row(b.size() + 1);  // from a prefix of a to those of b
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    two_before = std::move(before);
    before = std::move(row);
    row.assign(b.size() + 1, i);
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({before[j] + 1, row[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], two_before[j - 2] + 1);
    }
  }
  return row.back();
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = decode(text).bytes;
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

std::string escaped(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string clean;
  while (!text.empty()) {
    const size_t bytes = decode(text).bytes;
    if (const auto byte = static_cast<unsigned char>(text[0]); bytes == 0)
      clean += {'\\', 'x', kDigits[byte / 16], kDigits[byte % 16]};
    else
      clean += text.substr(0, bytes);
    text.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return clean;
}

std::string printable(std::string_view text) { return cleaned(text, "?"); }
std::string printable_lines(std::string_view text) { return cleaned(text, "\n"); }
std::string printable_line(std::string_view text) { return cleaned(text, "\\n"); }

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

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string nearest(std::string_view name, std::span<const std::string> names) {
  std::string nearest;
  size_t least = std::string::npos;
  for (const std::string& candidate : names) {
    const auto [shorter, longer] = std::minmax({name.size(), candidate.size()});
    const size_t allowed = shorter / 4;
    if (longer - shorter > allowed) continue;
    const size_t distance = edit_distance(folded(name), folded(candidate));
    if (distance > allowed || distance >= least) continue;
    nearest = candidate;
    least = distance;
  }
  return nearest;
}

std::string did_you_mean(const std::string& name) {
  return name.empty() ? "" : " (did you mean " + name + "?)";
}

}  // namespace fprnn
