#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

FPRNN_KERNEL(void cross_entropy_forward(const CrossEntropyForward&, int64_t begin, int64_t end))
FPRNN_KERNEL(void cross_entropy_backward(const CrossEntropyBackward&, int64_t begin, int64_t end))

namespace {

// The sum of the mask, after checking it and the targets that it lets through.
double checked_total(const Shape& logits, const IntTensor& targets, const Tensor& mask) {
  const std::string_view op = "masked_cross_entropy";
  require(logits.rank() >= 1 && logits[-1] >= 1, op, "logits must be (..., V) with V >= 1", logits);
  require(targets.shape() == logits.without(-1) && mask.shape() == targets.shape(), op,
          "targets and mask must have logits' shape without its last axis", targets.shape(),
          mask.shape(), logits);
  double total = 0;
  for (int64_t i = 0; i < targets.elements(); ++i) {
    const int32_t target = targets.data()[i];
    total += mask.data()[i];
    require<ValueError>(mask.data()[i] == 0 || (target >= 0 && target < logits[-1]), op,
                        "targets must be in [0, V): target, position and V", target, i, logits[-1]);
  }
  require<ValueError>(total > 0, op, "the mask's sum must be positive", total);
  return total;
}

}  // namespace

Var masked_cross_entropy(const Var& logits, const IntTensor& targets, const Tensor& mask) {
  const real total = static_cast<real>(checked_total(logits.shape(), targets, mask));
  const int64_t V = logits.size(-1), rows = targets.elements();
  const Context& context = logits.context();
  const Tensor log_sum(context, targets.shape()), losses(context, targets.shape());
  launch(context, CrossEntropyForward{.logits = logits.data(),
                                      .targets = targets.data(),
                                      .mask = mask.data(),
                                      .log_sum = log_sum.data(),
                                      .loss = losses.data(),
                                      .rows = rows,
                                      .V = V});
  const Tensor loss = affine(sum(losses), 1 / total, 0).value();
  return record("masked_cross_entropy", {logits}, loss,
                [=, logits = logits.value()](Backward& back) {
                  const Tensor dlogits(logits.context(), logits.shape());
                  launch(logits.context(), CrossEntropyBackward{.logits = logits.data(),
                                                                .targets = targets.data(),
                                                                .mask = mask.data(),
                                                                .log_sum = log_sum.data(),
                                                                .dloss = back.output().data(),
                                                                .dlogits = dlogits.data(),
                                                                .rows = rows,
                                                                .V = V,
                                                                .total_mask = total});
                  back.give(0, dlogits);
                });
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
