// Cross-entropy of classes, fused with softmax and masked. Cost: one read of the logits forward;
// backward reads them again and writes their gradient; it keeps the logits and a row's log-sum-exp.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// logits (..., V), targets (...), mask (...) of weights, usually 0 and 1 ->
//   sum_i mask_i (log sum_v exp(logits_iv) - logits_i,targets_i) / sum_i mask_i
// a scalar. A row with mask 0 counts for nothing, whatever its target. No gradient flows to the
// mask. With label smoothing s (Szegedy et al., 2016) the target is a distribution: 1 - s for itself
// and s / V for each class,
//   (1 - s) logits_i,targets_i + s / V sum_v logits_iv
// in place of logits_i,targets_i. Then no logit grows without end, and gradients do not vanish.
// ShapeError: shapes differ. ValueError: smoothing outside [0, 1); a target outside [0, V) where the
// mask is not 0; a mask whose sum is not positive; on a GPU when the host next waits for it.
Var masked_cross_entropy(const Var& logits, const IntTensor& targets, const Tensor& mask,
                         double smoothing = 0);

// Refuses bad targets and masks (core/fault.h) and adds up the mask.
struct CheckTargets {
  const int32_t* targets;  // (rows)
  const real* mask;        // (rows)
  real* total;             // one element
  int64_t rows, V;
};
// The log of a row's sum of exponentials is high + low, where high is the largest logit. Added up,
// they would be rounded to the last place of high, which is harmless only while high is at most
// kOneNumber.
struct LogSum {
  static constexpr real kOneNumber = 64;
  real high, low = 0;
};
struct CrossEntropyForward {
  const real* logits;      // (rows, V)
  const int32_t* targets;  // (rows)
  const real* mask;        // (rows)
  LogSum* log_sum;         // (rows)
  real* loss;              // (rows): mask times the row's loss
  int64_t rows, V;
  real smoothing;
};
struct CrossEntropyBackward : CrossEntropyForward {  // loss is not read
  const real* total = nullptr;                       // one element: the mask's sum
  const real* dloss = nullptr;                       // one element
  real* dlogits = nullptr;                           // (rows, V)
};
void run(Cpu, const CheckTargets&);
void run(Cpu, const CrossEntropyForward&);
void run(Cpu, const CrossEntropyBackward&);
void run(Cuda, const CheckTargets&);
void run(Cuda, const CrossEntropyForward&);
void run(Cuda, const CrossEntropyBackward&);

}  // namespace fprnn
