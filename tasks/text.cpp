#include <fprnn/core/check.h>
#include <fprnn/tasks/fingerprint.h>
#include <fprnn/tasks/text.h>

#include <algorithm>
#include <filesystem>

namespace fprnn {

namespace fs = std::filesystem;

Text::Text(std::string bytes) {
  const auto owner = std::make_shared<const std::string>(std::move(bytes));
  add(*owner, owner);
}

Text::Text(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    std::error_code none;
    require<UsageError>(fs::exists(path, none), "text", "the file or folder must be there", path);
    if (fs::is_directory(path, none))
      add_folder(path);
    else
      add_file(path);
  }
}

void Text::add_file(const std::string& path) {
  std::error_code none;
  require<UsageError>(fs::is_regular_file(path, none), "text", "it must be a file or a folder",
                      path);
  const auto file = std::make_shared<const MappedFile>(path);
  require<UsageError>(!file->bytes().empty(), "text", "a file must not be empty", path);
  add(file->bytes(), file);
}

void Text::add_folder(const std::string& path) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code none;
    if (entry->is_regular_file(none) && entry->file_size(none) > 0) files.push_back(entry->path());
  }
  require<FileError>(!error, "text", "the folder must be readable", path, error.message());
  require<UsageError>(!files.empty(), "text", "there must be a file in the folder, and not empty",
                      path);
  std::ranges::sort(files);
  for (const std::string& file : files) add_file(file);
}

void Text::add(std::string_view bytes, std::shared_ptr<const void> owner) {
  if (!pieces_.empty()) ++size_;  // the border
  pieces_.push_back({size_, bytes, std::move(owner)});
  size_ += static_cast<int64_t>(bytes.size());
}

std::string Text::description() const {
  constexpr int64_t kPieces = 1 << 6, kPiece = 1 << 18;
  const int64_t pieces = std::min((size_ + kPiece - 1) / kPiece, kPieces);
  const int64_t last = std::max<int64_t>(size_ - kPiece, 0);  // where the last piece begins
  std::vector<int32_t> piece(std::min(size_, kPiece));
  Fingerprint fingerprint;
  for (int64_t i = 0; i < pieces; ++i) {
    read(pieces == 1 ? 0 : last * i / (pieces - 1), piece);
    fingerprint.add(piece);
  }
  return std::to_string(size_) + " tokens, fingerprint " + fingerprint.text();
}

void Text::read(int64_t begin, std::span<int32_t> to) const {
  const auto count = static_cast<int64_t>(to.size());
  require<ValueError>(begin >= 0 && count <= size_ && begin <= size_ - count, "text",
                      "tokens must be there: the first, how many and the text's", begin, count,
                      size_);
  auto piece = std::ranges::upper_bound(pieces_, begin, {}, &Piece::begin);
  for (int64_t done = 0; done < count; ++piece) {
    const Piece& here = *std::prev(piece);
    const auto from = static_cast<size_t>(begin + done - here.begin);
    const std::string_view bytes = here.bytes.substr(from, count - done);
    for (const char byte : bytes) to[done++] = static_cast<unsigned char>(byte);
    if (done < count) to[done++] = kBorder;
  }
}

}  // namespace fprnn
