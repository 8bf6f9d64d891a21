// A number that tells data apart which have changed by accident: FNV-1a, a whole number at a time.
#pragma once

#include <charconv>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fprnn {

class Fingerprint {
 public:
  // One more number, list or text; where one ends and the next begins counts for texts.
  void add(uint64_t number) { hash_ = (hash_ ^ number) * 0x100000001b3; }
  void add(std::span<const int32_t> numbers) {
    for (const int32_t number : numbers) add(static_cast<uint32_t>(number));
  }
  void add(std::string_view text) {
    add(text.size());
    for (const char c : text) add(static_cast<unsigned char>(c));
  }
  std::string text() const {  // 16 hexadecimal digits
    char digits[16];
    const char* end = std::to_chars(digits, digits + 16, hash_, 16).ptr;
    const std::string_view found(digits, end);
    return std::string(16 - found.size(), '0').append(found);
  }

 private:
  uint64_t hash_ = 0xcbf29ce484222325;
};

}  // namespace fprnn
