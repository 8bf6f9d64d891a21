#include <fprnn/core/isa.h>
#include <fprnn/ops/low_rank.h>
#include <fprnn/ops/op.h>

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
  require_together(op, v, u, alpha);
  const Tensor y(v.context(), v.shape()), dots(v.context(), alpha.shape());
  const LowRankForward forward{.u = u.data(),
                               .alpha = alpha.data(),
                               .v = v.data(),
                               .y = y.data(),
                               .dots = dots.data(),
                               .tokens = v.shape().elements_before(-1),
                               .r = u.size(-2),
                               .D = u.size(-1),
                               .scale = scale,
                               .in_order = in_order};
  launch(v.context(), forward);
  const Tensor kept = in_order ? y : v.value();
  return record(op, {u, alpha, v}, y, [forward, u, alpha, kept, dots](Backward& back) {
    const Tensor du = like(u), dalpha = like(alpha), dv = like(kept);
    LowRankBackward backward{forward};
    backward.kept = kept.data();
    backward.dy = back.output().data();
    backward.du = du.data();
    backward.dalpha = dalpha.data();
    backward.dv = dv.data();
    launch(u.context(), backward);
    give_all(back, {du, dalpha, dv});
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
  run_pieces(cpu, FPRNN_SELECT(cpu, low_rank_forward), args, args.tokens,
             grain_for(args.r * args.D));
}

void run(Cpu cpu, const LowRankBackward& args) {
  run_with_space(cpu, FPRNN_SELECT(cpu, low_rank_backward), args, args.tokens, args.r * args.D,
                 args.D);
}

}  // namespace fprnn
