// Exercises of chapter 8. Replace each throw by your solution; `exercises -tc='8.*'` tests them.
#pragma once

#include <stdexcept>
#include <vector>

namespace chapter8 {

struct Machine {
  double bytes_a_second, flops_a_second, latency;  // latency: seconds
};

// 8.1 The least seconds of several kernels, one after the other; kernel i moves bytes[i] and does flops[i].
inline double least_seconds(const Machine& machine, const std::vector<double>& bytes,
                            const std::vector<double>& flops) {
  throw std::logic_error("exercise 8.1 is not solved");
}

// 8.2 How many steps ahead a scan of so many columns must ask for, at least, so that bytes_of_step for each
// column and step keep memory busy.
inline int steps_ahead(const Machine& machine, double columns, double bytes_of_step) {
  throw std::logic_error("exercise 8.2 is not solved");
}

// 8.3 How many sequences a block can own: each has a state of D N floats and three vectors of D floats, and all
// share A, D N floats. shared: bytes of the block.
inline int sequences_of_block(long D, long N, long shared) {
  throw std::logic_error("exercise 8.3 is not solved");
}

struct BlockTime {
  double seconds = 0, waiting = 0;
};
// 8.4 In each step all teams of a block share `product` seconds, then team g needs seconds[t][g], and all
// wait for the slowest. The seconds of all steps, and the share of the teams' time that is spent waiting.
inline BlockTime block_time(double product, const std::vector<std::vector<double>>& seconds) {
  throw std::logic_error("exercise 8.4 is not solved");
}

}  // namespace chapter8
