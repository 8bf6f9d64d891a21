// The statistics of a row that is normalised, written once for every device as
// elementwise_functions.h.
//
// Plain sums are used where they are accurate. Where the sum of squares overflows or underflows,
// the row is first multiplied by a power of two, which rounds nothing. Where LayerNorm's mean is
// many times the deviation, the rounding of the mean would show: the mean of the deviations from it
// is computed as a second part and subtracted too.
//
// Row has these sums over the row:
//   sum(map), squares(map) = sum of map(x)^2, largest(map) = max |map(x)|.
#pragma once

#include <fprnn/core/scaling.h>
#include <fprnn/ops/norm.h>

namespace fprnn::FPRNN_ISA {

struct RowStatistics {
  real center, rest;  // their sum is the mean, or 0
  real scale;
  real pull;  // the factor of n sum(g n) in dx
  template <class V>
  FPRNN_INLINE V normal(const V& x) const {
    return (x - center - rest) * scale;
  }
};

// The same with rest = 0.
struct PlainStatistics {
  real center, scale, pull;
  template <class V>
  FPRNN_INLINE V normal(const V& x) const {
    return (x - center) * scale;
  }
};

// Whether a mean is so many deviations from 0 that its own rounding would show among them.
FPRNN_INLINE bool is_far(real mean, real variance) {  // false for NaN
  return mean * mean > 256 * variance;
}

// Whether plain sums give a mean and a scale of full precision.
FPRNN_INLINE bool sound_statistics(Norm norm, real center, real squares, int64_t D, real eps) {
  if (norm == Norm::l2) return sound_squares(squares, eps);
  const real variance = squares / D + eps;
  return variance >= kLeastSquares && variance <= kMostSquares && !is_far(center, variance);
}

// squares: of factor (x - mean).
FPRNN_INLINE RowStatistics statistics_from(Norm norm, real center, real rest, real squares,
                                           real factor, int64_t D, real eps) {
  if (norm == Norm::l2) {
    const real length = square_root(squares);
    return length <= eps * factor ? RowStatistics{0, 0, 1 / eps, 0}
                                  : RowStatistics{0, 0, factor / length, 1};
  }
  return {center, rest, factor / square_root(squares / D + eps * factor * factor), real(1) / D};
}

template <class Row>
FPRNN_RARE RowStatistics careful_statistics(Norm norm, const Row& row, int64_t D, real eps) {
  real center = 0, rest = 0;
  if (norm == Norm::layer) {
    const real factor = inverse_power_of_two(row.largest([](auto x) { return x; }));
    center = row.sum([&](auto x) { return x * factor; }) / D;
    rest = row.sum([&](auto x) { return x * factor - center; }) / D / factor;
    center /= factor;
  }
  const auto deviation = [&](auto x) { return x - center - rest; };
  const real largest = row.largest(deviation), of_eps = norm == Norm::l2 ? eps : square_root(eps);
  const real factor = inverse_power_of_two(largest > of_eps ? largest : of_eps);
  const real squares = row.squares([&](auto x) { return deviation(x) * factor; });
  return statistics_from(norm, center, rest, squares, factor, D, eps);
}

template <class Row>
FPRNN_INLINE RowStatistics statistics_of(Norm norm, const Row& row, int64_t D, real eps) {
  const real center = norm == Norm::layer ? row.sum([](auto x) { return x; }) / D : real(0);
  const real squares = row.squares([&](auto x) { return x - center; });
  if (!sound_statistics(norm, center, squares, D, eps)) [[unlikely]]
    return careful_statistics(norm, row, D, eps);
  return statistics_from(norm, center, 0, squares, 1, D, eps);
}

}  // namespace fprnn::FPRNN_ISA
