// Files of named tensors in the safetensors format, read as if written by an enemy: every number is checked
// before it is used, memory is bounded by the file's size, and anything the format does not say is
// refused.
//
// Layout: 8 bytes little-endian header length n, n bytes of JSON {"name": {"dtype", "shape", "data_offsets":
// [begin, end]}, ..., "__metadata__": {string: string}}, then the data that the offsets point into.
#pragma once

#include <fprnn/core/tensor.h>

#include <map>

namespace fprnn {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // F64, F32, I64, I32 ... as in the file
  Shape shape;
  int64_t begin = 0, end = 0;  // bytes of the data section
};

class SafetensorsFile {
 public:
  // FormatError with the path: the file cannot be read or breaks a rule of the format. Offsets must cover the
  // data section without hole or overlap, end - begin must be elements times the dtype's size,
  // names must be unique, ranks at most 8, and the header at most 100 MB.
  static SafetensorsFile read(const std::string& path);

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::vector<SafetensorsEntry>& entries() const {
    return entries_;
  }  // in order of their data
  bool has(std::string_view name) const { return find(name) != nullptr; }

  // FormatError: no such tensor, or its dtype is not F64 or F32 (reals), I64 or I32 (ints in 32 bits).
  Tensor tensor(const Context& context, std::string_view name) const;
  IntTensor ints(const Context& context, std::string_view name) const;

 private:
  const SafetensorsEntry* find(std::string_view name) const;
  const SafetensorsEntry& at(std::string_view name) const;

  std::string path_;
  std::map<std::string, std::string> metadata_;
  std::vector<SafetensorsEntry> entries_;
  std::vector<char> data_;
};

}  // namespace fprnn
