// Reads a safetensors file and writes its tensors and metadata again: what other programs wrote, as
// ours.
#pragma once

#include <string>

namespace fprnn::tests {

// Reals become this build's, integers I32.
void rewrite(const std::string& from, const std::string& to);

}  // namespace fprnn::tests
