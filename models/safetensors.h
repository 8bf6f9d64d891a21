// Files of named tensors in the safetensors format, read as if written by an enemy: every number
// is checked before it is used, memory is bounded by the file's header and what is asked of it,
// and anything the format does not say is refused. safetensors_writer.h writes them.
//
// Layout: 8 bytes little-endian header length n, n bytes of JSON {"name": {"dtype", "shape",
// "data_offsets": [begin, end]}, ..., "__metadata__": {string: string}}, then the data that the
// offsets point into.
#pragma once

#include <fprnn/core/file.h>
#include <fprnn/core/tensor.h>

#include <map>
#include <memory>

namespace fprnn {

// A tensor as the header of a file describes it.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // F64, F32, I64, I32 ... as in the file
  Shape shape;
  int64_t begin = 0, end = 0;  // bytes of the data section
};

// A file open for reading.
class SafetensorsFile {
 public:
  // Reads and checks the header; the data stay in the file, which is kept open, until they are
  // asked for.
  // FileError: the file cannot be read. FormatError with the path: it breaks a rule of the format.
  // Offsets must cover the data section without hole or overlap, end - begin must be elements
  // times the dtype's size, names must be unique, ranks at most 8, and the header at most 100 MB.
  // MemoryError: the machine cannot hold the header.
  static SafetensorsFile read(const std::string& path);

  // The strings of "__metadata__", by key.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Its tensors, in order of their data.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  // Whether there is a tensor of that name.
  bool has(std::string_view name) const { return find(name) != nullptr; }

  // FormatError: no such tensor, or its dtype is not F64 or F32 (reals), I64 or I32 (ints in 32
  // bits).
  // FileError: the file has been cut short meanwhile. MemoryError: the Context cannot hold it.
  Tensor tensor(const Context& context, std::string_view name) const;
  IntTensor ints(const Context& context, std::string_view name) const;

 private:
  SafetensorsFile() = default;
  const SafetensorsEntry* find(std::string_view name) const;
  const SafetensorsEntry& at(std::string_view name) const;

  std::shared_ptr<const InputFile> file_;
  int64_t data_ = 0;  // where the data section begins
  std::map<std::string, std::string> metadata_;
  std::vector<SafetensorsEntry> entries_;
};

}  // namespace fprnn
