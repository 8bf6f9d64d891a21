#include <fcntl.h>
#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

namespace fprnn {

namespace {

namespace fs = std::filesystem;

// FileError with the path and the reason of the system call that was made last, unless ok.
void check_system(bool ok, std::string_view rule, const std::string& path) {
  if (!ok) require<FileError>(false, "file", rule, path, std::system_category().message(errno));
}

// Repeats a system call while signals interrupt it.
template <class Call>
auto uninterrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

Descriptor opened(const std::string& path, int flags, std::string_view rule) {
  Descriptor file(uninterrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); }));
  check_system(file.number() >= 0, rule, path);
  return file;
}

constexpr std::string_view kWritable = "the file must be writable";

void write_all(const Descriptor& file, const std::string& path, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count =
        uninterrupted([&] { return ::write(file.number(), text.data(), text.size()); });
    check_system(count > 0, "the file must be writable to its end", path);
    text.remove_prefix(count);
  }
}

// A path as the folder it is in and its name there.
struct Place {
  std::string folder, name;
  explicit Place(const std::string& path) {
    const size_t end = path.find_last_not_of('/') + 1;
    const size_t slash = path.substr(0, end).rfind('/');
    const size_t begin = slash == std::string::npos ? 0 : slash + 1;
    folder = begin == 0 ? "." : path.substr(0, begin);
    name = path.substr(begin, end - begin);
    require<FileError>(!name.empty() && name != "." && name != "..", "file",
                       "a path must end with a name", path);
  }
  std::string path() const { return folder == "." ? name : folder + name; }
  // A sibling that does not exist: NAME.KIND-PROCESS-NUMBER.
  std::string sibling(std::string_view kind) const {
    for (int number = 0;; ++number) {
      const std::string sibling = fmt::format("{}.{}-{}-{}", path(), kind, ::getpid(), number);
      struct stat status {};
      if (::lstat(sibling.c_str(), &status) != 0) return sibling;
    }
  }
};

// Of NAME.KIND-PROCESS-NUMBER the NAME, and nothing of any other.
std::string base_of(const std::string& sibling, std::string_view kind) {
  const size_t at = sibling.rfind(fmt::format(".{}-", kind));
  if (at == std::string::npos) return {};
  const std::string numbers = sibling.substr(at + kind.size() + 2);
  const size_t dash = numbers.find('-');
  const bool sound = dash != std::string::npos && dash > 0 && dash + 1 < numbers.size() &&
                     numbers.find_first_not_of("0123456789", dash + 1) == std::string::npos &&
                     numbers.find_first_not_of("0123456789") == dash;
  return sound ? sibling.substr(0, at) : std::string();
}

void remove_quietly(const std::string& path) noexcept {
  try {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  } catch (const std::exception&) {
  }
}

// Removes what has the path when the scope ends, if anything has.
struct Removal {
  std::string path;
  ~Removal() { remove_quietly(path); }
};

// Renames of files and folders are on the disk when their folder is. Some systems cannot sync one.
void sync_folder(const std::string& path) {
  const Descriptor folder = opened(path, O_RDONLY | O_DIRECTORY, "the folder must be readable");
  const int status = uninterrupted([&] { return ::fsync(folder.number()); });
  check_system(status == 0 || errno == EINVAL || errno == ENOTSUP, "the folder must reach the disk",
               path);
}

bool swap_folders([[maybe_unused]] const std::string& x, [[maybe_unused]] const std::string& y) {
#ifdef RENAME_EXCHANGE
  return ::renameat2(AT_FDCWD, x.c_str(), AT_FDCWD, y.c_str(), RENAME_EXCHANGE) == 0;
#else
  return false;
#endif
}

// Folders take the place of absent or empty ones by a rename, of others by an exchange.
void put_folder(const std::string& temporary, const Place& place) {
  const std::string path = place.path();
  if (::rename(temporary.c_str(), path.c_str()) == 0) return;
  check_system(errno == ENOTEMPTY || errno == EEXIST, "the folder must take its name", path);
  if (swap_folders(temporary, path)) return;
  const std::string old = place.sibling("old");
  check_system(::rename(path.c_str(), old.c_str()) == 0, "the folder must be replaceable", path);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    ::rename(old.c_str(), path.c_str());
    errno = reason;
    check_system(false, "the folder must take its name", path);
  }
  remove_quietly(old);
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

// Not to wait for the other end of what turns out to be a pipe.
InputFile::InputFile(const std::string& path)
    : path_(path), file_(opened(path, O_RDONLY | O_NONBLOCK, "the file must be readable")) {
  struct stat status {};
  require<FileError>(::fstat(file_.number(), &status) == 0 && S_ISREG(status.st_mode), "file",
                     "what is read must be a regular file", path);
  size_ = status.st_size;
}

void InputFile::read(int64_t at, void* to, int64_t bytes) const {
  for (int64_t done = 0; done < bytes;) {
    const int64_t count = uninterrupted([&] {
      return ::pread(file_.number(), static_cast<char*>(to) + done, bytes - done, at + done);
    });
    check_system(count >= 0, "the file must be readable to its end", path_);
    require<FileError>(count > 0, "file", "the file must not end while it is read: file and byte",
                       path_, at + done);
    done += count;
  }
}

std::string read_file(const std::string& path, int64_t cap) {
  const InputFile file(path);
  require<FileError>(file.size() <= cap, "file", "the file must not be larger: file, bytes and cap",
                     path, file.size(), cap);
  std::string text(file.size(), '\0');
  file.read(0, text.data(), file.size());
  return text;
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

OutputFile::OutputFile(const std::string& path)
    : path_(path), file_(opened(path, O_WRONLY | O_CREAT | O_EXCL, kWritable)) {}

void OutputFile::write(const void* from, int64_t bytes) {
  require<UsageError>(file_.number() >= 0, "file", "a finished file takes no more", path_);
  write_all(file_, path_, {static_cast<const char*>(from), static_cast<size_t>(bytes)});
}

// An interrupted close has closed the file.
void OutputFile::finish() {
  require<UsageError>(file_.number() >= 0, "file", "a finished file takes no more", path_);
  check_system(uninterrupted([&] { return ::fsync(file_.number()); }) == 0,
               "the file must reach the disk", path_);
  const int status = ::close(file_.release());
  check_system(status == 0 || errno == EINTR, "the file must be writable to its end", path_);
}

LineFile::LineFile(const std::string& path)
    : path_(path), file_(opened(path, O_WRONLY | O_CREAT | O_APPEND, kWritable)) {
  struct stat status {};
  check_system(::fstat(file_.number(), &status) == 0, kWritable, path);
  device_ = status.st_dev;
  number_ = status.st_ino;
  size_ = status.st_size;
}

void LineFile::append(std::string_view line) {
  const std::string text = std::string(line) + '\n';
  write_all(file_, path_, text);
  size_ += static_cast<int64_t>(text.size());
  check();
}

void LineFile::check() const {
  struct stat now {};
  check_system(::stat(path_.c_str(), &now) == 0, "the file that is written must stay there", path_);
  require<FileError>(now.st_dev == device_ && now.st_ino == number_, "file",
                     "the file must not be replaced while it is written", path_);
  require<FileError>(
      now.st_size == size_, "file",
      "nobody else must change a file that is written: path, bytes and those written", path_,
      int64_t{now.st_size}, size_);
}

FolderLock::FolderLock(const std::string& folder)
    : file_(opened(folder + "/lock", O_RDWR | O_CREAT | O_NOFOLLOW, kWritable)) {
  const bool held = uninterrupted([&] { return ::flock(file_.number(), LOCK_EX | LOCK_NB); }) == 0;
  require<UsageError>(held || errno != EWOULDBLOCK, "folder",
                      "another program is at work in it: wait for its end, or name another",
                      folder);
}

void replace_file(const std::string& path, const std::function<void(OutputFile&)>& write) {
  const Place place(path);
  remove_temporaries(place.folder, place.name);
  const Removal temporary{place.sibling("tmp")};
  OutputFile file(temporary.path);
  write(file);
  file.finish();
  check_system(::rename(temporary.path.c_str(), place.path().c_str()) == 0,
               "the file must take its name", path);
  sync_folder(place.folder);
}

void replace_file(const std::string& path, std::string_view text) {
  replace_file(path, [&](OutputFile& file) { file.write(text); });
}

void replace_folder(const std::string& path, const std::function<void(const std::string&)>& fill) {
  const Place place(path);
  remove_temporaries(place.folder, place.name);
  const std::string temporary = place.sibling("tmp");
  check_system(::mkdir(temporary.c_str(), 0777) == 0, "the folder must be writable", temporary);
  const Removal removal{temporary};  // of what did not take its name, or of what it replaced
  fill(temporary);
  sync_folder(temporary);
  put_folder(temporary, place);
  sync_folder(place.folder);
}

void remove_folder(const std::string& path) {
  const Place place(path);
  const std::string temporary = place.sibling("tmp");
  check_system(::rename(place.path().c_str(), temporary.c_str()) == 0,
               "the folder must be removable", path);
  std::error_code error;
  fs::remove_all(temporary, error);
  require<FileError>(!error, "file", "the folder must be removable", path, error.message());
}

// A temporary loses its name first: its writer, should there be one yet, is refused and cannot put
// what is left of it in place. A folder set aside is the only one left until another has its name.
void remove_temporaries(const std::string& folder, std::string_view name) {
  std::vector<std::pair<fs::path, std::string>> found;  // and the names they are temporaries of
  std::error_code error, ignored;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string temporary = base_of(entry->path().filename(), "tmp");
    const std::string old = base_of(entry->path().filename(), "old");
    const std::string& base = temporary.empty() ? old : temporary;
    if (base.empty() || (!name.empty() && name != base)) continue;
    if (!old.empty() && !fs::exists(fs::path(folder) / old, ignored)) continue;
    found.emplace_back(entry->path(), base);
  }
  for (const auto& [path, base] : found) {
    const std::string fresh = Place(fs::path(folder) / base).sibling("tmp");
    if (::rename(path.c_str(), fresh.c_str()) == 0) remove_quietly(fresh);
  }
}

}  // namespace fprnn
