// One program at a time in a folder.
#pragma once

#include <memory>
#include <string>

namespace fprnn {

// Holds an advisory lock on the file `lock` in the folder, which is made if needed and stays. The
// system releases the lock when the process ends, for whatever reason. On a file system without
// such locks nothing is held.
class FolderLock {
 public:
  // UsageError, which names the folder: another program holds it. FileError: the file cannot be
  // made.
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(FolderLock&&) noexcept;
  FolderLock& operator=(FolderLock&&) noexcept;

 private:
  struct Held;
  std::unique_ptr<Held> held_;
};

}  // namespace fprnn
