#include <fprnn/core/fault.h>
#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

FPRNN_KERNEL(void cross_entropy_forward(const CrossEntropyForward&, int64_t begin, int64_t end))
FPRNN_KERNEL(void cross_entropy_backward(const CrossEntropyBackward&, int64_t begin, int64_t end))

namespace {

void check_shapes(const Shape& logits, const Shape& targets, const Shape& mask) {
  const std::string_view op = "masked_cross_entropy";
  require(logits.rank() >= 1 && logits[-1] >= 1, op, "logits must be (..., V) with V >= 1", logits);
  require(targets == logits.without(-1) && mask == targets, op,
          "targets and mask must have logits' shape without its last axis", targets, mask, logits);
}

}  // namespace

Var masked_cross_entropy(const Var& logits, const IntTensor& targets, const Tensor& mask) {
  check_shapes(logits.shape(), targets.shape(), mask.shape());
  require_together("masked_cross_entropy", logits, targets, mask);
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
  const auto log_sums = [](const Tensor& x) { return reinterpret_cast<LogSum*>(x.data()); };
  launch(context, CrossEntropyForward{.logits = logits.data(),
                                      .targets = targets.data(),
                                      .mask = mask.data(),
                                      .log_sum = log_sums(log_sum),
                                      .loss = losses.data(),
                                      .rows = rows,
                                      .V = V});
  const Tensor loss = div(sum(losses), total).value();
  return record("masked_cross_entropy", {logits}, loss,
                [=, logits = logits.value()](Backward& back) {
                  const Tensor dlogits(logits.context(), logits.shape());
                  launch(logits.context(), CrossEntropyBackward{.logits = logits.data(),
                                                                .targets = targets.data(),
                                                                .mask = mask.data(),
                                                                .log_sum = log_sums(log_sum),
                                                                .total = total.data(),
                                                                .dloss = back.output().data(),
                                                                .dlogits = dlogits.data(),
                                                                .rows = rows,
                                                                .V = V});
                  back.give(0, dlogits);
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
  const auto kernel = FPRNN_SELECT(cpu, cross_entropy_forward);
  parallel_for(cpu, args.rows, grain_for(args.V),
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

void run(Cpu cpu, const CrossEntropyBackward& args) {
  const auto kernel = FPRNN_SELECT(cpu, cross_entropy_backward);
  parallel_for(cpu, args.rows, grain_for(args.V),
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace fprnn
