// state.json of a checkpoint: what a run needs besides its tensors to go on where it stopped.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace fprnn {

using Configuration = std::map<std::string, std::string>;  // options by name, as a user writes them

// Counts are in [0, 2^53], so that whoever goes on from one cannot overflow.
struct CheckpointState {
  int64_t step = 0;  // training steps done
  uint64_t seed = 0;
  uint64_t stream = 0;  // of the random numbers
  int64_t cursor = 0;   // in the data
  int64_t skipped = 0;  // steps so far whose loss or gradient was not finite
  double seconds = 0;   // trained
  // What was trained on, where settings do not say it all; empty: they do, or the run is from before
  // it was written.
  std::string data = {};
  std::string real = {};  // "float" or "double": of the run that was saved; saving ignores it
  Configuration configuration = {};

  bool operator==(const CheckpointState&) const = default;
};

// The text of state.json with this build's real type. ValueError: a count outside its range,
// seconds that are negative or not finite, text that is no UTF-8.
std::string to_json(const CheckpointState& state);
// Read back. FormatError with the source's name: text that is no JSON, another format version, a
// missing, unknown or repeated key, a value of another type or range.
CheckpointState checkpoint_state_from_json(const std::string& text, const std::string& source);

}  // namespace fprnn
