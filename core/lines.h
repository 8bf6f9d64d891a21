// Files that grow by lines, and such files read without holding them. FileError: the system refuses.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace fprnn {

// A file that this process alone adds lines to.
class LineFile {
 public:
  explicit LineFile(const std::string& path);  // goes on at its end, or makes it
  ~LineFile();
  LineFile(LineFile&&) noexcept;
  LineFile& operator=(LineFile&&) noexcept;

  // The line and its end, in one piece; the system has them when it returns. FileError: see check.
  void append(std::string_view line);
  // FileError: the file of that name is not the one that was written, or has lost or got bytes.
  void check() const;

 private:
  struct Open;
  std::unique_ptr<Open> open_;
};

// The lines of a file without their ends, one by one; what stands behind the last end, which a kill
// may have cut off, is none. FileError: also a line of more than `longest` bytes, with its number.
void for_each_line(const std::string& path, int64_t longest,
                   const std::function<void(std::string_view line)>& take);

}  // namespace fprnn
