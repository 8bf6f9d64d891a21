// Solutions of the exercises of chapter 8, docs/learn/exercises/8-kernels.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace chapter8 {

struct Machine {
  double bytes_a_second, flops_a_second, latency;  // latency: seconds
};

// 8.1
inline double least_seconds(const Machine& machine, const std::vector<double>& bytes,
                            const std::vector<double>& flops) {
  double total = 0;  // kernels do not overlap: each has a roofline of its own
  for (size_t i = 0; i < bytes.size(); ++i)
    total += std::max(bytes[i] / machine.bytes_a_second, flops[i] / machine.flops_a_second);
  return total;
}

// 8.2
inline int steps_ahead(const Machine& machine, double columns, double bytes_of_step) {
  const double needed = machine.bytes_a_second * machine.latency;
  return static_cast<int>(std::ceil(needed / (columns * bytes_of_step)));
}

// 8.3
inline int sequences_of_block(long D, long N, long shared) {
  const long left = shared - 4 * D * N;
  return left < 0 ? 0 : static_cast<int>(left / (4 * (D * N + 3 * D)));
}

struct BlockTime {
  double seconds = 0, waiting = 0;
};
// 8.4
inline BlockTime block_time(double product, const std::vector<std::vector<double>>& seconds) {
  double total = 0, waiting = 0, all = 0;
  for (const std::vector<double>& step : seconds) {
    const double slowest = *std::max_element(step.begin(), step.end());
    total += product + slowest;
    for (const double own : step) waiting += slowest - own;
    all += static_cast<double>(step.size()) * (product + slowest);
  }
  return {total, waiting / all};
}

}  // namespace chapter8
