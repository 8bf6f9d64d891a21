// One program at a time in a folder.
#pragma once

#include <memory>
#include <string>

namespace fprnn {

// Holds the folder, by an advisory lock on the file `lock` in it, which is made if need be and stays.
// The system lets go of it when the process ends, however that happens. Where a file system knows no
// such locks, nothing is held.
class FolderLock {
 public:
  // UsageError, naming the folder: it is held. FileError: the file cannot be made.
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(FolderLock&&) noexcept;
  FolderLock& operator=(FolderLock&&) noexcept;

 private:
  struct Held;
  std::unique_ptr<Held> held_;
};

}  // namespace fprnn
