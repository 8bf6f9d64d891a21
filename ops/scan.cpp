#include <fprnn/core/isa.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/scan.h>

namespace fprnn {

FPRNN_KERNEL(void scan_forward(const ScanForward&, int64_t b, int64_t begin, int64_t end))
FPRNN_KERNEL(void scan_backward(const ScanBackward&, int64_t b, int64_t begin, int64_t end))

Var scan(const Var& a, const Var& b, const ScanOptions& options) {
  const Var& h0 = options.h0;
  require(a.shape() == b.shape(), "scan", "a and b must have the same shape", a.shape(), b.shape());
  require(a.shape().rank() == 3, "scan", "a and b must be (B, T, D)", a.shape());
  const int64_t B = a.size(0), T = a.size(1), D = a.size(2);
  require(fits(h0, Shape{B, D}), "scan", "h0 must be (B, D)", h0.shape(), a.shape());
  require_together("scan", a, b, h0);
  Tensor h(a.context(), a.shape());
  const ScanForward forward{.a = a.data(),
                            .b = b.data(),
                            .h0 = data_or_null(h0),
                            .h = h.data(),
                            .B = B,
                            .T = T,
                            .D = D,
                            .reverse = options.reverse};
  launch(a.context(), forward);
  return record("scan", {a, b, h0}, h, [forward, a, h0 = h0, h](Backward& back) {
    const Tensor da = like(a), db = like(a), dh0(a.context(), a.shape().without(1));
    ScanBackward backward{forward};
    backward.dh = back.output().data();
    backward.da = da.data();
    backward.db = db.data();
    backward.dh0 = dh0.data();
    launch(a.context(), backward);
    give_all(back, {da, db, dh0});
  });
}

namespace {

// One unit of work is a range of channels of a sequence: whole rows where sequences are enough for
// all threads. Channels are independent, so the split changes no bits.
template <class Args, class Kernel>
void over_channels(Cpu cpu, const Args& args, const Kernel& kernel) {
  const int64_t wanted = pieces(4 * cpu.context.threads(), std::max<int64_t>(1, args.B));
  const int64_t width = std::max<int64_t>(64, pieces(pieces(args.D, wanted), 16) * 16);
  const int64_t ranges = pieces(args.D, width);
  parallel_for(cpu, args.B * ranges, grain_for(args.T * width), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t channel = unit % ranges * width;
      kernel(args, unit / ranges, channel, std::min(args.D, channel + width));
    }
  });
}

}  // namespace

void run(Cpu cpu, const ScanForward& args) {
  over_channels(cpu, args, FPRNN_SELECT(cpu, scan_forward));
}

void run(Cpu cpu, const ScanBackward& args) {
  over_channels(cpu, args, FPRNN_SELECT(cpu, scan_backward));
}

}  // namespace fprnn
