// Writes safetensors files: what the reader (safetensors.h) and the safetensors package of Python
// read back. The bytes are a function of what was added and in which order.
//
// Layout: wide dtypes before narrow ones, so that every element is aligned, otherwise in the order
// of adding; the header is padded with spaces to 8 bytes.
#pragma once

#include <fprnn/core/file.h>
#include <fprnn/core/tensor.h>

#include <map>
#include <set>

namespace fprnn {

class SafetensorsWriter {
 public:
  // F32, in the double build F64, and I32. The elements are shared, and read when the file is
  // written.
  // ValueError: a name that is there already, is "__metadata__", no UTF-8 or above 100 MB.
  // UsageError: the tensor is empty.
  void add(const std::string& name, const Tensor& tensor);
  void add(const std::string& name, const IntTensor& tensor);
  // ValueError: a key that is there already, or text that is no UTF-8 or above 100 MB.
  void add_metadata(const std::string& key, const std::string& value);

  // ValueError: a header above 100 MB. FileError: core/file.h.
  void write(OutputFile& file) const;
  void write(const std::string& path) const;  // replaces the file of that name

 private:
  struct Entry {
    std::string name;  // as JSON
    const char* dtype;
    Shape shape;
    Context context;
    std::shared_ptr<const void> keep;  // what owns the elements
    const char* elements;
    int64_t bytes;
    int64_t width;  // of an element
  };
  template <class Element>
  void add(const std::string& name, const char* dtype, const BasicTensor<Element>& tensor);
  std::string header() const;

  std::vector<Entry> entries_;  // in the order of their data
  std::set<std::string> names_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace fprnn
