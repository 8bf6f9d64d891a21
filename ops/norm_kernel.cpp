// All three norms are y = weight (x - center) scale + bias with center and scale from the row. With
// n = (x - center) scale and g = weight dy, backward is
//   layer, rms:  dx = scale (g - mean(g) - n mean(g n)),  without mean(g) for rms
//   l2:          dx = scale (g - n sum(g n)),             without the second term where eps was
//   larger
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/norm.h>

namespace fprnn::FPRNN_ISA {

namespace {

struct RowStatistics {
  real center, scale;
  real pull;  // the factor of n sum(g n) in dx
};

FPRNN_INLINE RowStatistics row_statistics(Norm norm, const real* x, int64_t D, real eps) {
  real center = 0;
  if (norm == Norm::layer) {
    Vec total{};
    for_lanes(D, [&](int64_t i, auto lanes) { total += lanes.load(x + i); });
    center = sum(total) / D;
  }
  Vec squares{};
  for_lanes(D, [&](int64_t i, auto lanes) {
    const Vec deviation = lanes.keep(lanes.load(x + i) - center);
    squares += deviation * deviation;
  });
  const real total = sum(squares);
  if (norm == Norm::l2) {
    const real length = square_root(total);
    return length <= eps ? RowStatistics{0, 1 / eps, 0} : RowStatistics{0, 1 / length, 1};
  }
  return {center, 1 / square_root(total / D + eps), real(1) / D};
}

}  // namespace

void norm_forward(const NormForward& args, int64_t begin, int64_t end) {
  const int64_t D = args.D;
  for (int64_t row = begin; row < end; ++row) {
    const real* x = args.x + row * D;
    real* y = args.y + row * D;
    const RowStatistics s = row_statistics(args.norm, x, D, args.eps);
    for_lanes(D, [&](int64_t i, auto lanes) {
      Vec value = (lanes.load(x + i) - s.center) * s.scale;
      if (args.weight != nullptr) value *= lanes.load(args.weight + i);
      if (args.bias != nullptr) value += lanes.load(args.bias + i);
      lanes.store(y + i, value);
    });
  }
}

// dweight and dbias (D) are the sums over these rows alone.
void norm_backward(const NormBackward& args, int64_t begin, int64_t end, real* dweight,
                   real* dbias) {
  const int64_t D = args.D;
  for (int64_t i = 0; i < D; ++i) {
    if (dweight != nullptr) dweight[i] = 0;
    if (dbias != nullptr) dbias[i] = 0;
  }
  for (int64_t row = begin; row < end; ++row) {
    const real* x = args.x + row * D;
    const real* dy = args.dy + row * D;
    real* dx = args.dx + row * D;
    const RowStatistics s = row_statistics(args.norm, x, D, args.eps);
    const auto weighted = [&](int64_t i, auto lanes) {
      const Vec gradient = lanes.load(dy + i);
      return args.weight != nullptr ? gradient * lanes.load(args.weight + i) : gradient;
    };
    Vec sum_g{}, sum_gn{};
    for_lanes(D, [&](int64_t i, auto lanes) {
      const Vec g = weighted(i, lanes);
      sum_g += g;
      sum_gn += g * ((lanes.load(x + i) - s.center) * s.scale);
    });
    const real shift = args.norm == Norm::layer ? sum(sum_g) / D : 0;
    const real pull = s.pull * sum(sum_gn);
    for_lanes(D, [&](int64_t i, auto lanes) {
      const Vec n = (lanes.load(x + i) - s.center) * s.scale;
      const Vec gift = s.scale * (weighted(i, lanes) - shift - n * pull);
      lanes.store(dx + i, args.accumulate ? lanes.load(dx + i) + gift : gift);
      if (dweight != nullptr)
        lanes.store(dweight + i, lanes.load(dweight + i) + lanes.load(dy + i) * n);
      if (dbias != nullptr) lanes.store(dbias + i, lanes.load(dbias + i) + lanes.load(dy + i));
    });
  }
}

}  // namespace fprnn::FPRNN_ISA
