// Files that grow line by line, and a reader that does not hold them in memory. FileError: the
// system refuses.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace fprnn {

// A file to which only this process appends lines.
class LineFile {
 public:
  explicit LineFile(const std::string& path);  // continues at its end, or makes it
  ~LineFile();
  LineFile(LineFile&&) noexcept;
  LineFile& operator=(LineFile&&) noexcept;

  // Hands the line and its newline to the system in one piece. FileError: as check.
  void append(std::string_view line);
  // FileError: the file of that name is another than the one written here, or somebody else changed
  // its size.
  void check() const;

 private:
  struct Open;
  std::unique_ptr<Open> open_;
};

// Calls take(line) for every line of a file, without its newline. Text after the last newline,
// which a kill may have cut off, is not a line. FileError: also a line of more than `longest`
// bytes, with its number.
void for_each_line(const std::string& path, int64_t longest,
                   const std::function<void(std::string_view line)>& take);

}  // namespace fprnn
