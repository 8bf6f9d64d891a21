#include <fprnn/ops/small_matrix.h>

namespace fprnn::FPRNN_ISA {

// y (inner) <- the sum of the rows of x (rows, inner). Four rows at a time are added before they
// meet the total, which shortens the chain of dependent additions.
void sum_rows(const real* x, real* y, int64_t rows, int64_t inner) {
  for_lanes(inner, [&](int64_t i, auto lanes) {
    Vec total{};
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) {
      const real* at = x + row * inner + i;
      total += (lanes.load(at) + lanes.load(at + inner)) +
               (lanes.load(at + 2 * inner) + lanes.load(at + 3 * inner));
    }
    for (; row < rows; ++row) total += lanes.load(x + row * inner + i);
    lanes.store(y + i, total);
  });
}

// The sum of x (count).
real sum_contiguous(const real* x, int64_t count) { return inner(count, x); }

}  // namespace fprnn::FPRNN_ISA
