// A file whose bytes are read in place, as the system's memory of it: one larger than the memory is no
// matter.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace fprnn {

class MappedFile {
 public:
  // FileError: it cannot be read, or is no regular file. While it is mapped nobody may shorten it.
  explicit MappedFile(const std::string& path);

  std::string_view bytes() const { return bytes_; }  // as long as this or a copy of it lives

 private:
  std::string_view bytes_;
  std::shared_ptr<const void> mapping_;
};

}  // namespace fprnn
