#include <fcntl.h>
#include <fprnn/core/folder_lock.h>
#include <fprnn/core/system.h>
#include <sys/file.h>

namespace fprnn {

struct FolderLock::Held {
  Descriptor file;
};

FolderLock::FolderLock(const std::string& folder) {
  const std::string path = folder + "/lock";
  Descriptor file(uninterrupted(
      [&] { return ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666); }));
  check_system(file.number() >= 0, "the file must be writable", path);
  const bool held = uninterrupted([&] { return ::flock(file.number(), LOCK_EX | LOCK_NB); }) == 0;
  require<UsageError>(held || errno != EWOULDBLOCK, "folder",
                      "another program is at work in it: wait for its end, or name another",
                      folder);
  held_ = std::make_unique<Held>(Held{std::move(file)});
}

FolderLock::~FolderLock() = default;
FolderLock::FolderLock(FolderLock&&) noexcept = default;
FolderLock& FolderLock::operator=(FolderLock&&) noexcept = default;

}  // namespace fprnn
