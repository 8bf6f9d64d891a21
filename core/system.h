// Calls of the operating system and their errors. For source files only.
#pragma once

#include <fprnn/core/check.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace fprnn {

// FileError with the path and the reason of the system call that was made last, unless ok.
inline void check_system(bool ok, std::string_view rule, const std::string& path) {
  if (ok) return;
  const int reason = errno;
  require<FileError>(false, "file", rule, path, std::system_category().message(reason));
}

// Repeats a system call while signals interrupt it.
template <class Call>
auto uninterrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// A file descriptor, closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace fprnn
