// One direction of a plot: which numbers it shows, where, and which of them are written beside it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fprnn {

// Numbers beyond this, and beneath its inverse on logarithmic axes, are gaps in a plot as those
// that are not finite.
inline constexpr double kLargestShown = 1e100;

struct Axis {
  double least = 0, most = 1;
  int base = 0;  // of the logarithm; 0: linear

  // 0 at least, 1 at most; NaN for what cannot be shown, such as 0 on a logarithmic axis.
  double at(double value) const;
  // Round numbers, ascending: 1, 2 or 5 times powers of ten, or powers of the base; at most so many
  // of them, save all of the former on a logarithmic axis of base 10 over a few decades.
  std::vector<double> ticks(int most_ticks) const;
};

// Whether all of them are positive, and the largest more than `ratio` times the smallest.
bool spans(std::span<const double> values, double ratio);
// An axis over all that can be shown of the values; if that is one number, it stands in the middle,
// and if nothing, 0 to 1.
Axis axis_over(std::span<const double> values, int base = 0);
// The same with room at both ends, a fraction of the whole.
Axis padded(const Axis& axis, double fraction);

// A logarithmic axis of base 10 from a power of ten to another.
Axis whole_decades(const Axis& axis);

// A tick's number as it is read: "0.25", "20,000", "10⁻⁴".
std::string tick_text(double value);

}  // namespace fprnn
