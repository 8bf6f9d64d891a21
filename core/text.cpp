#include <fprnn/core/text.h>

#include <algorithm>
#include <cstdint>

namespace fprnn {

namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

struct Decoded {
  uint32_t code = 0;
  size_t bytes = 0;  // 0: no UTF-8
};

Decoded decode(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const size_t bytes = first < 0x80   ? 1
                       : first < 0xC2 ? 0
                       : first < 0xE0 ? 2
                       : first < 0xF0 ? 3
                                      : 4;
  if (bytes == 0 || first > 0xF4 || bytes > text.size()) return {};
  uint32_t code = bytes == 1 ? first : first & (0xFFU >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) {
    if (!continues(text[i])) return {};
    code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
  }
  const bool overlong = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return overlong || surrogate || code > 0x10FFFF ? Decoded{} : Decoded{code, bytes};
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

}  // namespace

std::string printable(std::string_view text) { return cleaned(text, "?"); }
std::string printable_lines(std::string_view text) { return cleaned(text, "\n"); }
std::string printable_line(std::string_view text) { return cleaned(text, "\\n"); }

}  // namespace fprnn
