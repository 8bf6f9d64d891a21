#include <fprnn/core/simd.h>

namespace fprnn::FPRNN_ISA {

void vector_add(real* y, const real* x, int64_t count) {
  for_lanes(count, [&](int64_t i, auto lanes) {
    lanes.store(y + i, lanes.load(y + i) + lanes.load(x + i));
  });
}

double vector_sum_of_squares(const real* x, int64_t count) {
  double lane[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int64_t j = 0; j < 8; ++j) lane[j] += static_cast<double>(x[i + j]) * x[i + j];
  for (; i < count; ++i) lane[i % 8] += static_cast<double>(x[i]) * x[i];
  double total = 0;
  for (const double value : lane) total += value;
  return total;
}

real vector_max_abs(const real* x, int64_t count) {
  Vec largest{};
  for_lanes(count, [&](int64_t i, auto lanes) {
    largest = larger_or_nan(largest, magnitude(lanes.load(x + i)));
  });
  return largest_or_nan(largest);
}

}  // namespace fprnn::FPRNN_ISA
