#include <fcntl.h>
#include <fprnn/core/file.h>
#include <fprnn/core/lines.h>
#include <fprnn/core/system.h>
#include <sys/stat.h>

#include <algorithm>

namespace fprnn {

struct LineFile::Open {
  std::string path;
  Descriptor file;
  struct stat written {};  // which file it is, and its size by what was written
};

LineFile::LineFile(const std::string& path)
    : open_(new Open{path, Descriptor(uninterrupted([&] {
                       return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
                     }))}) {
  const int number = open_->file.number();
  check_system(number >= 0 && ::fstat(number, &open_->written) == 0, "the file must be writable",
               path);
}

LineFile::~LineFile() = default;
LineFile::LineFile(LineFile&&) noexcept = default;
LineFile& LineFile::operator=(LineFile&&) noexcept = default;

void LineFile::append(std::string_view line) {
  const std::string text = std::string(line) + '\n';
  for (size_t done = 0; done < text.size();) {
    const ssize_t count = uninterrupted(
        [&] { return ::write(open_->file.number(), text.data() + done, text.size() - done); });
    check_system(count > 0, "the file must be writable to its end", open_->path);
    open_->written.st_size += count;
    done += count;
  }
  check();
}

void LineFile::check() const {
  struct stat now {};
  check_system(::stat(open_->path.c_str(), &now) == 0, "the file that is written must stay there",
               open_->path);
  const struct stat& written = open_->written;
  require<FileError>(now.st_dev == written.st_dev && now.st_ino == written.st_ino, "file",
                     "the file must not be replaced while it is written", open_->path);
  require<FileError>(
      now.st_size == written.st_size, "file",
      "nobody else must change a file that is written: path, bytes and those written", open_->path,
      int64_t{now.st_size}, int64_t{written.st_size});
}

void for_each_line(const std::string& path, int64_t longest,
                   const std::function<void(std::string_view line)>& take) {
  constexpr int64_t kBlock = 1 << 16;
  const InputFile file(path);
  int64_t number = 1;
  const auto check_length = [&](size_t bytes) {
    require<FileError>(static_cast<int64_t>(bytes) <= longest, "file",
                       "no line must be longer: file, line and most bytes", path, number, longest);
  };
  std::string text;  // from the beginning of a line
  for (int64_t at = 0; at < file.size();) {
    const size_t before = text.size(), bytes = std::min(kBlock, file.size() - at);
    text.resize(before + bytes);
    file.read(at, text.data() + before, static_cast<int64_t>(bytes));
    at += static_cast<int64_t>(bytes);
    size_t begin = 0;
    for (size_t end; (end = text.find('\n', std::max(begin, before))) != std::string::npos;
         begin = end + 1, ++number) {
      check_length(end - begin);
      take(std::string_view(text).substr(begin, end - begin));
    }
    text.erase(0, begin);
    check_length(text.size());
  }
}

}  // namespace fprnn
