// Files and folders of which no kill leaves a half, files that grow by lines, and the lock of a
// folder.
//
// What is replaced is written to a temporary in the same folder, flushed to the disk and renamed in
// one step: after a failure or a kill the old one is still there. Temporaries are named
// NAME.tmp-PROCESS-NUMBER. The next writer of NAME removes those of a killed process. A name has
// one writer at a time; of two, one may be refused, and neither leaves half a file.
//
// Every refusal of the system is a FileError with the path and the system's reason.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace fprnn {

// An open file of the system, closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  int number() const { return number_; }
  int release() { return std::exchange(number_, -1); }  // the caller closes it

 private:
  int number_;  // negative: none
};

// A file open for reading at any position.
class InputFile {
 public:
  explicit InputFile(const std::string& path);  // FileError: also if it is no regular file

  const std::string& path() const { return path_; }  // as given
  int64_t size() const { return size_; }             // when it was opened
  // Bytes [at, at + bytes) of the file. FileError: it ends before them.
  void read(int64_t at, void* to, int64_t bytes) const;

 private:
  std::string path_;
  Descriptor file_;
  int64_t size_ = 0;
};

// All bytes of a file. FileError: more than `cap`.
std::string read_file(const std::string& path, int64_t cap);

// Calls take(line) for every line of a file, which is not held in memory, without its newline. Text
// after the last newline, which a kill may have cut off, is not a line. FileError: also a line of
// more than `longest` bytes, with its number.
void for_each_line(const std::string& path, int64_t longest,
                   const std::function<void(std::string_view line)>& take);

// A new file, written from beginning to end.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);  // FileError: also if it exists

  // Appends bytes. FileError: the disk is full, say.
  void write(const void* from, int64_t bytes);
  void write(std::string_view text) { write(text.data(), static_cast<int64_t>(text.size())); }
  void finish();  // flushes to the disk and closes; the file is complete only then

 private:
  std::string path_;
  Descriptor file_;
};

// A file to which only this process appends lines.
class LineFile {
 public:
  explicit LineFile(const std::string& path);  // continues at its end, or makes it

  // Hands the line and its newline to the system in one piece. FileError: as check.
  void append(std::string_view line);
  // FileError: the file of that name is another than the one written here, or somebody else changed
  // its size.
  void check() const;

 private:
  std::string path_;
  Descriptor file_;
  uint64_t device_ = 0, number_ = 0;  // which file it is
  int64_t size_ = 0;                  // by what was written
};

// Replaces the file by what write(file) writes. An exception of `write` is passed on.
void replace_file(const std::string& path, const std::function<void(OutputFile&)>& write);
void replace_file(const std::string& path, std::string_view text);

// Replaces the folder by what fill(folder) puts into an empty one, each file a finished OutputFile,
// and removes the old folder. Where the system cannot exchange two folders, a kill at the wrong
// moment leaves the old one as NAME.old-PROCESS-NUMBER.
void replace_folder(const std::string& path, const std::function<void(const std::string&)>& fill);

// Removes a folder. A kill halfway leaves a temporary, never a part of the folder under its name.
void remove_folder(const std::string& path);

// Removes the temporaries of `name` in the folder, or all if no name is given. What cannot be
// removed stays.
void remove_temporaries(const std::string& folder, std::string_view name = {});

// Holds an advisory lock on the file `lock` in the folder, which is made if needed and stays. The
// system releases the lock when the process ends, for whatever reason. On a file system without
// such locks nothing is held. UsageError, which names the folder: another program holds it.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);

 private:
  Descriptor file_;
};

}  // namespace fprnn
