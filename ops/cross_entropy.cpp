#include <fprnn/core/fault.h>
#include <fprnn/core/isa.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

FPRNN_KERNEL(void cross_entropy_forward(const CrossEntropyForward&, int64_t begin, int64_t end))
FPRNN_KERNEL(void cross_entropy_backward(const CrossEntropyBackward&, int64_t begin, int64_t end))

Var masked_cross_entropy(const Var& logits, const IntTensor& targets, const Tensor& mask,
                         double smoothing) {
  const std::string_view op = "masked_cross_entropy";
  require(logits.shape().rank() >= 1 && logits.size(-1) >= 1, op,
          "logits must be (..., V) with V >= 1", logits.shape());
  require(targets.shape() == logits.shape().without(-1) && mask.shape() == targets.shape(), op,
          "targets and mask must have logits' shape without its last axis", targets.shape(),
          mask.shape(), logits.shape());
  require<ValueError>(smoothing >= 0 && smoothing < 1, op, "smoothing must be in [0, 1)",
                      smoothing);
  require_together(op, logits, targets, mask);
  const int64_t V = logits.size(-1), rows = targets.elements();
  const Context& context = logits.context();
  const Tensor total(context, Shape{});
  launch(context, CheckTargets{.targets = targets.data(),
                               .mask = mask.data(),
                               .total = total.data(),
                               .rows = rows,
                               .V = V});
  const Tensor log_sum(context, targets.shape().appended(sizeof(LogSum) / sizeof(real))),
      losses(context, targets.shape());
  const CrossEntropyForward forward{.logits = logits.data(),
                                    .targets = targets.data(),
                                    .mask = mask.data(),
                                    .log_sum = reinterpret_cast<LogSum*>(log_sum.data()),
                                    .loss = losses.data(),
                                    .rows = rows,
                                    .V = V,
                                    .smoothing = static_cast<real>(smoothing)};
  launch(context, forward);
  const Tensor loss = div(sum(losses), total).value();
  return record(op, {logits}, loss,
                [forward, logits, targets, mask, log_sum, total](Backward& back) {
                  const Tensor dlogits = like(logits);
                  CrossEntropyBackward backward{forward};
                  backward.total = total.data();
                  backward.dloss = back.output().data();
                  backward.dlogits = dlogits.data();
                  launch(logits.context(), backward);
                  back.accumulate(0, dlogits);
                });
}

void run(Cpu, const CheckTargets& args) {
  double total = 0;
  for (int64_t i = 0; i < args.rows; ++i) {
    total += args.mask[i];
    if (args.mask[i] != 0 && (args.targets[i] < 0 || args.targets[i] >= args.V))
      throw_fault({Fault::Rule::target, args.targets[i], i, args.V});
  }
  if (!(total > 0)) throw_fault({Fault::Rule::mask});
  *args.total = static_cast<real>(total);
}

void run(Cpu cpu, const CrossEntropyForward& args) {
  run_pieces(cpu, FPRNN_SELECT(cpu, cross_entropy_forward), args, args.rows, grain_for(args.V));
}

void run(Cpu cpu, const CrossEntropyBackward& args) {
  run_pieces(cpu, FPRNN_SELECT(cpu, cross_entropy_backward), args, args.rows, grain_for(args.V));
}

}  // namespace fprnn
