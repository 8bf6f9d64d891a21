// All three norms are y = weight n + bias with n = (x - mean) scale, mean and scale from the row.
// With g = weight dy, backward is
//   layer, rms:  dx = scale (g - mean(g) - n mean(g n)),  without mean(g) for rms
//   l2:          dx = scale (g - n sum(g n)),             without the second term where eps was
//   larger
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/norm_statistics.h>

namespace fprnn::FPRNN_ISA {

namespace {

// A row in memory, as norm_statistics.h takes it.
struct MemoryRow {
  const real* x;
  int64_t D;

  template <class Map>
  FPRNN_INLINE real sum(const Map& map) const {
    Vec total{};
    for_lanes(D, [&](int64_t i, auto lanes) { total += lanes.keep(map(lanes.load(x + i))); });
    return FPRNN_ISA::sum(total);
  }
  template <class Map>
  FPRNN_INLINE real squares(const Map& map) const {
    Vec total{};
    for_lanes(D, [&](int64_t i, auto lanes) {
      const Vec value = lanes.keep(map(lanes.load(x + i)));
      total += value * value;
    });
    return FPRNN_ISA::sum(total);
  }
  template <class Map>
  FPRNN_INLINE real largest(const Map& map) const {
    Vec most{};
    for_lanes(D, [&](int64_t i, auto lanes) {
      most = larger(most, magnitude(lanes.keep(map(lanes.load(x + i)))));
    });
    return FPRNN_ISA::largest(most);
  }
};

// visit(s) with a row's statistics: where there is no rest, which is nearly always, none is
// subtracted.
template <class Visit>
FPRNN_INLINE void with_statistics(const RowStatistics& s, const Visit& visit) {
  if (s.rest == 0) [[likely]]
    return visit(PlainStatistics{s.center, s.scale, s.pull});
  visit(s);
}

template <class Statistics>
FPRNN_INLINE void forward_row(const NormForward& args, int64_t row, const Statistics& s) {
  const real* x = args.x + row * args.D;
  real* y = args.y + row * args.D;
  for_lanes(args.D, [&](int64_t i, auto lanes) {
    Vec value = s.normal(lanes.load(x + i));
    if (args.weight != nullptr) value *= lanes.load(args.weight + i);
    if (args.bias != nullptr) value += lanes.load(args.bias + i);
    lanes.store(y + i, value);
  });
}

template <class Statistics>
FPRNN_INLINE void backward_row(const NormBackward& args, int64_t row, const Statistics& s,
                               real* dweight, real* dbias) {
  const int64_t D = args.D;
  const real* x = args.x + row * D;
  const real* dy = args.dy + row * D;
  real* dx = args.dx + row * D;
  const auto weighted = [&](int64_t i, auto lanes) {
    const Vec gradient = lanes.load(dy + i);
    return args.weight != nullptr ? gradient * lanes.load(args.weight + i) : gradient;
  };
  Vec sum_g{}, sum_gn{};
  for_lanes(D, [&](int64_t i, auto lanes) {
    const Vec g = weighted(i, lanes);
    sum_g += g;
    sum_gn += g * s.normal(lanes.load(x + i));
  });
  const real shift = args.norm == Norm::layer ? sum(sum_g) / D : 0;
  const real pull = s.pull * sum(sum_gn);
  for_lanes(D, [&](int64_t i, auto lanes) {
    const Vec n = s.normal(lanes.load(x + i));
    const Vec gift = s.scale * (weighted(i, lanes) - shift - n * pull);
    lanes.store(dx + i, args.accumulate ? lanes.load(dx + i) + gift : gift);
    if (dweight != nullptr)
      lanes.store(dweight + i, lanes.load(dweight + i) + lanes.load(dy + i) * n);
    if (dbias != nullptr) lanes.store(dbias + i, lanes.load(dbias + i) + lanes.load(dy + i));
  });
}

}  // namespace

void norm_forward(const NormForward& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const MemoryRow x{args.x + row * args.D, args.D};
    with_statistics(statistics_of(args.norm, x, args.D, args.eps),
                    [&](const auto& s) { forward_row(args, row, s); });
  }
}

// dweight and dbias (D) are the sums over these rows alone.
void norm_backward(const NormBackward& args, int64_t begin, int64_t end, real* dweight,
                   real* dbias) {
  for (int64_t i = 0; i < args.D; ++i) {
    if (dweight != nullptr) dweight[i] = 0;
    if (dbias != nullptr) dbias[i] = 0;
  }
  for (int64_t row = begin; row < end; ++row) {
    const MemoryRow x{args.x + row * args.D, args.D};
    with_statistics(statistics_of(args.norm, x, args.D, args.eps),
                    [&](const auto& s) { backward_row(args, row, s, dweight, dbias); });
  }
}

}  // namespace fprnn::FPRNN_ISA
