#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/ops/scan.h>

namespace fprnn {

FPRNN_KERNEL(void scan_forward(const ScanForward&, int64_t b, int64_t begin, int64_t end))
FPRNN_KERNEL(void scan_backward(const ScanBackward&, int64_t b, int64_t begin, int64_t end))

Var scan(const Var& a, const Var& b, const ScanOptions& options) {
  const Var& h0 = options.h0;
  require(a.shape() == b.shape(), "scan", "a and b must have the same shape", a.shape(), b.shape());
  require(a.shape().rank() == 3, "scan", "a and b must be (B, T, D)", a.shape());
  const int64_t B = a.size(0), T = a.size(1), D = a.size(2);
  require(!h0.defined() || h0.shape() == Shape{B, D}, "scan", "h0 must be (B, D)", h0.shape(),
          a.shape());
  require_together("scan", a, b, h0);
  Tensor h(a.context(), a.shape());
  launch(a.context(), ScanForward{.a = a.data(),
                                  .b = b.data(),
                                  .h0 = h0.defined() ? h0.data() : nullptr,
                                  .h = h.data(),
                                  .B = B,
                                  .T = T,
                                  .D = D,
                                  .reverse = options.reverse});
  return record("scan", {a, b, h0}, h,
                [=, a = a.value(), h0 = h0.value(), reverse = options.reverse](Backward& back) {
                  const Tensor da(a.context(), a.shape()), db(a.context(), a.shape());
                  const Tensor dh0(a.context(), Shape{B, D});
                  launch(a.context(), ScanBackward{.a = a.data(),
                                                   .h = h.data(),
                                                   .h0 = h0.defined() ? h0.data() : nullptr,
                                                   .dh = back.output().data(),
                                                   .da = da.data(),
                                                   .db = db.data(),
                                                   .dh0 = dh0.data(),
                                                   .B = B,
                                                   .T = T,
                                                   .D = D,
                                                   .reverse = reverse});
                  back.give(0, da);
                  back.give(1, db);
                  back.give(2, dh0);
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
