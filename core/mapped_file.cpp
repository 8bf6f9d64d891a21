#include <fcntl.h>
#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <fprnn/core/mapped_file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>

namespace fprnn {

MappedFile::MappedFile(const std::string& path) {
  const auto check = [&](bool ok, std::string_view rule) {
    if (!ok) require<FileError>(false, "file", rule, path, std::system_category().message(errno));
  };
  // Of a pipe nobody waits for a writer.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  check(file.number() >= 0, "the file must be readable");
  struct stat status = {};
  check(::fstat(file.number(), &status) == 0, "the file must be readable");
  require<FileError>(S_ISREG(status.st_mode), "file", "it must be a regular file", path);
  if (status.st_size == 0) return;  // which cannot be mapped
  const auto size = static_cast<size_t>(status.st_size);
  void* begin = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number(), 0);
  check(begin != MAP_FAILED, "the file must have room in the address space");
  mapping_ = {begin, [size](const void* at) { ::munmap(const_cast<void*>(at), size); }};
  bytes_ = {static_cast<const char*>(begin), size};
}

}  // namespace fprnn
