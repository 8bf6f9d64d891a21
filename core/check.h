// Typed errors. The library never aborts or exits: it throws. The message names the function that
// refused, the rule that was broken and the values that broke it:
//   [scan] a and b must have the same shape, got (2, 7, 4) and (2, 8, 4)
// The library prints nothing, except a warning of solves that do not converge where the caller asks
// for one (autograd/fixed_point.h).
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fprnn {

// What the library throws; what() is the message.
class Error : public std::runtime_error {
 public:
  Error(std::string_view tag, std::string_view rule, std::span<const std::string> got = {});
  const std::string& tag() const { return tag_; }  // who refused

 private:
  std::string tag_;
};

struct ShapeError : Error {
  using Error::Error;
};  // shapes that do not fit together
struct ValueError : Error {
  using Error::Error;
};  // a number, name or option outside its range
struct MemoryError : Error {
  using Error::Error;
};  // beyond the Context's byte limit or the machine
struct FormatError : Error {
  using Error::Error;
};  // a file that breaks its format
struct FileError : Error {
  using Error::Error;
};  // a file that cannot be read or written
struct DeviceError : Error {
  using Error::Error;
};  // a device that is missing or failed
struct UsageError : Error {
  using Error::Error;
};  // calls that cannot go together
struct ConvergenceError : Error {
  using Error::Error;
};  // an iteration that missed its tolerance

// How a value appears in a message. Each type of the library declares its own overload.
std::string describe(double value);
std::string describe(bool value);
std::string describe(std::string_view text);
inline std::string describe(const char* text) { return describe(std::string_view(text)); }
template <std::integral Int>
requires(!std::same_as<Int, bool>) std::string describe(Int value) { return std::to_string(value); }

// Throws E("[tag] rule, got value and value") unless ok.
template <class E = ShapeError, class... Values>
void require(bool ok, std::string_view tag, std::string_view rule, const Values&... got) {
  if (ok) [[likely]]
    return;
  if constexpr (sizeof...(got) == 0) {
    throw E(tag, rule);
  } else {
    const std::string described[] = {describe(got)...};
    throw E(tag, rule, described);
  }
}

}  // namespace fprnn
