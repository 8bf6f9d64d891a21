// Safetensors files that break one rule each.
#pragma once

#include <string>
#include <vector>

namespace fprnn::tests {

struct Malformed {
  std::string rule;
  std::string bytes;
};

std::vector<Malformed> malformed_files();
std::string sound_file();  // what most of them are made from

// A whole file: the header's length, the header and the data.
std::string safetensors_bytes(const std::string& header, const std::string& data);

}  // namespace fprnn::tests
