// Files that appear whole or not at all. The content is written to a temporary file in the same
// folder, flushed to the disk and renamed in one step: after a failure or a kill the old file is
// still there.
//
// Temporaries are named NAME.tmp-PROCESS-NUMBER. The next writer of NAME removes those of a killed
// process. A name has one writer at a time; of two, one may be refused, and neither leaves half a
// file.
//
// Every refusal of the system is a FileError with the path and the system's reason.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace fprnn {

// A file open for reading at any position.
class InputFile {
 public:
  explicit InputFile(const std::string& path);  // FileError: also if it is no regular file
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }  // when it was opened
  // Bytes [at, at + bytes) of the file. FileError: it ends before them.
  void read(int64_t at, void* to, int64_t bytes) const;

 private:
  std::string path_;
  int descriptor_;
  int64_t size_ = 0;
};

// All bytes of a file. FileError: more than `cap`.
std::string read_file(const std::string& path, int64_t cap);

// A new file, written from beginning to end.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);  // FileError: also if it exists
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* from, int64_t bytes);
  void write(std::string_view text) { write(text.data(), static_cast<int64_t>(text.size())); }
  void finish();  // flushes to the disk and closes; the file is complete only then

 private:
  std::string path_;
  int descriptor_;
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

}  // namespace fprnn
