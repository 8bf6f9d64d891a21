#include <fprnn/tasks/batch.h>

#include <limits>

namespace fprnn {

void check_batch(std::string_view tag, int64_t sequences, int64_t length) {
  require<ValueError>(sequences >= 1 && length >= 1, tag, "batch and length must be at least 1",
                      sequences, length);
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  require<ValueError>(length < kMost && sequences <= kMost / (length + 1), tag,
                      "a batch must have below 2^31 tokens: sequences and length", sequences,
                      length);
}

}  // namespace fprnn
