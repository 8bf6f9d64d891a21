// The SSD scan's work on the CPU: which form, cut into units, and their shares added up. A unit is
// a few heads of one group in one sequence, which share b and c.
#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/ssd_scan.h>

namespace fprnn {

FPRNN_KERNEL(int64_t ssd_recurrence_space(int64_t P, int64_t N))
FPRNN_KERNEL(void ssd_recurrence_forward(const SsdScanForward&, int64_t b, int64_t first,
                                         int64_t last, real* space))
FPRNN_KERNEL(void ssd_recurrence_backward(const SsdScanBackward&, int64_t b, int64_t first,
                                          int64_t last, const SsdShares&, real* space))
FPRNN_KERNEL(int64_t ssd_chunks_space(int64_t P, int64_t N, int64_t heads))
FPRNN_KERNEL(void ssd_chunks_forward(const SsdScanForward&, int64_t b, int64_t first, int64_t last,
                                     real* space))
FPRNN_KERNEL(void ssd_chunks_backward(const SsdScanBackward&, int64_t b, int64_t first,
                                      int64_t last, const SsdShares&, real* space))
FPRNN_KERNEL(void ssd_add_shares(const real* shares, int64_t blocks, int64_t T, int64_t N, real* to,
                                 int64_t stride))
FPRNN_KERNEL(void sum_rows(const real* x, real* y, int64_t rows, int64_t inner))

namespace {

// Heads of a unit depend on the sizes of one sequence alone: a batch's other sequences must not
// change its bits.
struct Units {
  int64_t of_group, heads, blocks, count;  // heads of a group and of a unit, units of a group

  explicit Units(const SsdScanForward& args)
      : of_group(args.H / args.G),
        heads(std::clamp<int64_t>(pieces(of_group, 8), 1, 4)),
        blocks(std::max<int64_t>(1, pieces(of_group, heads))),
        count(args.B * args.G * blocks) {}
  // visit(b, first head, last head)
  template <class Visit>
  void at(int64_t unit, int64_t G, const Visit& visit) const {
    const int64_t group = unit / blocks, first = unit % blocks * heads;
    const int64_t start = group % G * of_group;
    visit(group / G, start + first, start + std::min(of_group, first + heads));
  }
};

int64_t cost_of(const SsdScanForward& args, const Units& units) {
  return args.T * units.heads * args.P * args.N;
}

int64_t space_of(Cpu cpu, const SsdScanForward& args, const Units& units) {
  return args.chunked ? FPRNN_SELECT(cpu, ssd_chunks_space)(args.P, args.N, units.heads)
                      : FPRNN_SELECT(cpu, ssd_recurrence_space)(args.P, args.N);
}

}  // namespace

void run(Cpu cpu, const SsdScanForward& args) {
  const Units units(args);
  const auto kernel = args.chunked ? FPRNN_SELECT(cpu, ssd_chunks_forward)
                                   : FPRNN_SELECT(cpu, ssd_recurrence_forward);
  const auto visit = [&](const SsdScanForward& of, real* space, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit)
      units.at(unit, of.G,
               [&](int64_t b, int64_t first, int64_t last) { kernel(of, b, first, last, space); });
  };
  run_with_space(cpu, visit, args, units.count, cost_of(args, units), space_of(cpu, args, units));
}

void run(Cpu cpu, const SsdScanBackward& args) {
  const SsdScanForward& in = args.forward;
  const Units units(in);
  const int64_t B = in.B, T = in.T, H = in.H, P = in.P, G = in.G, N = in.N;
  const Tensor db = zeros(cpu.context, Shape{units.count, T, N}),
               dc = zeros(cpu.context, db.shape());
  const Tensor da = zeros(cpu.context, Shape{B, H}), dt_bias = zeros(cpu.context, Shape{B, H});
  const Tensor dskip = zeros(cpu.context, Shape{B, H, P});
  const auto kernel = in.chunked ? FPRNN_SELECT(cpu, ssd_chunks_backward)
                                 : FPRNN_SELECT(cpu, ssd_recurrence_backward);
  const auto visit = [&](const SsdScanBackward& of, real* space, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit)
      units.at(unit, G, [&](int64_t b, int64_t first, int64_t last) {
        const SsdShares shares{.db = db.data() + unit * T * N,
                               .dc = dc.data() + unit * T * N,
                               .da = da.data() + b * H,
                               .dt_bias = dt_bias.data() + b * H,
                               .dskip = dskip.data() + b * H * P};
        kernel(of, b, first, last, shares, space);
      });
  };
  run_with_space(cpu, visit, args, units.count, 3 * cost_of(in, units), space_of(cpu, in, units));

  const auto add = FPRNN_SELECT(cpu, ssd_add_shares);
  parallel_for(cpu, B * G, grain_for(units.blocks * T * N), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = i * units.blocks * T * N, to = (i / G * T * G + i % G) * N;
      add(db.data() + from, units.blocks, T, N, args.db + to, G * N);
      add(dc.data() + from, units.blocks, T, N, args.dc + to, G * N);
    }
  });
  const auto sum = FPRNN_SELECT(cpu, sum_rows);
  sum(da.data(), args.da, B, H);
  sum(dt_bias.data(), args.ddt_bias, B, H);
  sum(dskip.data(), args.dskip, B, H * P);
}

}  // namespace fprnn
