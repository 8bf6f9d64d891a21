#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/ops/low_rank.h>

#include <cmath>

namespace fprnn {

FPRNN_KERNEL(void low_rank_forward(const LowRankForward&, int64_t begin, int64_t end))
FPRNN_KERNEL(void low_rank_backward(const LowRankBackward&, real* v, int64_t begin, int64_t end))

namespace {

Var low_rank(std::string_view op, const Var& u, const Var& alpha, const Var& v, real scale,
             bool in_order) {
  require(u.shape().rank() >= 2 && u.shape().without(-2) == v.shape(), op,
          "u must be (..., r, D) and v (..., D)", u.shape(), v.shape());
  require(alpha.shape() == u.shape().without(-1), op, "u must be (..., r, D) and alpha (..., r)",
          u.shape(), alpha.shape());
  require<ValueError>(std::isfinite(scale), op, "scale must be finite", scale);
  const int64_t r = u.size(-2), D = u.size(-1), tokens = v.shape().elements_before(-1);
  require_together(op, v, u, alpha);
  const Tensor y(v.context(), v.shape()), dots(v.context(), alpha.shape());
  launch(v.context(), LowRankForward{.u = u.data(),
                                     .alpha = alpha.data(),
                                     .v = v.data(),
                                     .y = y.data(),
                                     .dots = dots.data(),
                                     .tokens = tokens,
                                     .r = r,
                                     .D = D,
                                     .scale = scale,
                                     .in_order = in_order});
  const Tensor kept = in_order ? y : v.value();
  return record(op, {u, alpha, v}, y, [=, u = u.value(), alpha = alpha.value()](Backward& back) {
    const Context& context = u.context();
    const Tensor du(context, u.shape()), dalpha(context, alpha.shape());
    const Tensor dv(context, kept.shape());
    launch(context, LowRankBackward{.u = u.data(),
                                    .alpha = alpha.data(),
                                    .kept = kept.data(),
                                    .dots = dots.data(),
                                    .dy = back.output().data(),
                                    .du = du.data(),
                                    .dalpha = dalpha.data(),
                                    .dv = dv.data(),
                                    .tokens = tokens,
                                    .r = r,
                                    .D = D,
                                    .scale = scale,
                                    .in_order = in_order});
    back.give(0, du);
    back.give(1, dalpha);
    back.give(2, dv);
  });
}

}  // namespace

Var householder(const Var& u, const Var& alpha, const Var& v, real scale) {
  return low_rank("householder", u, alpha, v, scale, true);
}

Var dplr(const Var& u, const Var& alpha, const Var& v, real scale) {
  return low_rank("dplr", u, alpha, v, scale, false);
}

void run(Cpu cpu, const LowRankForward& args) {
  const auto kernel = FPRNN_SELECT(cpu, low_rank_forward);
  parallel_for(cpu, args.tokens, grain_for(args.r * args.D),
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

void run(Cpu cpu, const LowRankBackward& args) {
  const auto kernel = FPRNN_SELECT(cpu, low_rank_backward);
  const int64_t grain = std::max(grain_for(args.r * args.D), pieces(args.tokens, 256));
  const Tensor work(cpu.context, Shape{pieces(args.tokens, grain), args.D});
  parallel_for(cpu, args.tokens, grain, [&](int64_t begin, int64_t end) {
    kernel(args, work.data() + begin / grain * args.D, begin, end);
  });
}

}  // namespace fprnn
