#include <fprnn/core/vector_math.h>
#include <fprnn/ops/cross_entropy.h>

namespace fprnn::FPRNN_ISA {

void cross_entropy_forward(const CrossEntropyForward& args, int64_t begin, int64_t end) {
  const int64_t V = args.V;
  for (int64_t row = begin; row < end; ++row) {
    const real* logits = args.logits + row * V;
    real largest = logits[0];
    for (int64_t i = 1; i < V; ++i)
      if (!(logits[i] <= largest)) largest = logits[i];
    Vec total{};
    for_lanes(V, [&](int64_t i, auto lanes) {
      total += lanes.keep(exp(lanes.load(logits + i) - largest));
    });
    const real log_total = static_cast<real>(__builtin_log(sum(total)));
    const LogSum log_sum = __builtin_fabs(largest) < LogSum::kOneNumber
                               ? LogSum{largest + log_total}
                               : LogSum{largest, log_total};
    args.log_sum[row] = log_sum;
    if (args.mask[row] == 0) {
      args.loss[row] = 0;
      continue;
    }
    real below = log_sum.high - logits[args.targets[row]];
    if (args.smoothing > 0) {
      Vec all{};
      for_lanes(V, [&](int64_t i, auto lanes) {
        all += lanes.keep(log_sum.high - lanes.load(logits + i));
      });
      below += args.smoothing * (sum(all) / static_cast<real>(V) - below);
    }
    args.loss[row] = args.mask[row] * (below + log_sum.low);
  }
}

void cross_entropy_backward(const CrossEntropyBackward& args, int64_t begin, int64_t end) {
  const int64_t V = args.V;
  for (int64_t row = begin; row < end; ++row) {
    const real* logits = args.logits + row * V;
    real* dlogits = args.dlogits + row * V;
    const LogSum log_sum = args.log_sum[row];
    const real weight = *args.dloss * args.mask[row] / *args.total;
    if (args.mask[row] == 0) {
      for (int64_t i = 0; i < V; ++i) dlogits[i] = 0;
      continue;
    }
    const real share = weight * args.smoothing / static_cast<real>(V);
    for_lanes(V, [&](int64_t i, auto lanes) {
      const auto p = exp(lanes.load(logits + i) - log_sum.high - log_sum.low);
      lanes.store(dlogits + i, weight * p - share);
    });
    dlogits[args.targets[row]] -= weight * (1 - args.smoothing);
  }
}

}  // namespace fprnn::FPRNN_ISA
