// Memory that ran out, with what it was wanted for.
#pragma once

#include <fprnn/core/check.h>

#include <new>

namespace fprnn {

// work(), for so many sequences of a length. MemoryError, naming both and their tokens' bytes:
// there is no room for it, be it for a tensor or for anything else.
template <class Work>
auto with_shortage_named(std::string_view tag, int64_t sequences, int64_t length,
                         const Work& work) {
  const auto refuse = [&](const char* what) {
    const double bytes = static_cast<double>(sequences) * (static_cast<double>(length) + 1) * 4;
    require<MemoryError>(
        false, tag,
        "there must be memory for it: sequences, length, bytes of tokens and what failed",
        sequences, length, bytes, what);
  };
  try {
    return work();
  } catch (const MemoryError& error) {
    refuse(error.what());
  } catch (const std::bad_alloc& error) {
    refuse(error.what());
  }
  throw;  // never reached: refuse throws
}

}  // namespace fprnn
