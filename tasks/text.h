// A text as tokens: the bytes of its files, 0 to 255, with a border, 256, between one file and the next.
#pragma once

#include <fprnn/core/mapped_file.h>

#include <cstdint>
#include <span>
#include <vector>

namespace fprnn {

class Text {
 public:
  static constexpr int32_t kBorder = 256;      // the token between two files
  static constexpr int64_t kVocabulary = 257;  // tokens that there are

  Text() = default;  // no token
  explicit Text(std::string bytes);
  // Files, read in place; of a folder all files in it and below, in the order of their paths, but
  // empty ones. UsageError: one that is not there or is neither, an empty one, a folder without any.
  // FileError: what cannot be read.
  explicit Text(const std::vector<std::string>& paths);

  int64_t size() const { return size_; }  // tokens, borders among them
  // Tokens [begin, begin + to.size()). ValueError: not all of them are there.
  void read(int64_t begin, std::span<int32_t> to) const;
  // How many tokens, and a fingerprint (tasks/fingerprint.h): of all up to 2^24 of them, else of 2^6
  // pieces of 2^18 at equal distances, the first and the last among them.
  std::string description() const;

 private:
  void add(std::string_view bytes, std::shared_ptr<const void> owner);
  void add_file(const std::string& path);
  void add_folder(const std::string& path);

  struct Piece {
    int64_t begin;  // its first token
    std::string_view bytes;
    std::shared_ptr<const void> owner;
  };
  std::vector<Piece> pieces_;
  int64_t size_ = 0;
};

}  // namespace fprnn
