// A step of AdamW (models/adamw.h) over many parameters at once. The host waits for none of its
// numbers.
#pragma once

#include <fprnn/core/device.h>

#include <span>

namespace fprnn {

// The longest gradient, after clipping, whose squares the second moments can hold, with room for
// rounding. An infinite one would stay so for good.
inline constexpr double kLongestGradient = kDouble ? 1.3e154 : 1.8e19;

// One parameter's share of a step.
struct AdamWPart {
  real* value;           // (count)
  real* mean;            // (count)
  real* variance;        // (count)
  const real* gradient;  // (count)
  int64_t count;
  bool decays;
};
// What changes from step to step, on the device.
struct AdamWNumbers {
  real shrink;               // 1 - lr weight_decay
  real step_size;            // lr / (1 - beta1^t)
  real variance_correction;  // 1 / sqrt(1 - beta2^t)
  double clip;               // the longest norm; infinity: none
};
struct AdamWOutcome {
  double squares;  // the sum of the gradients'
  double taken;    // 1, or 0
};
// The sum over all parts, each in pieces whose sums are added in order.
struct GradientSquares {
  std::span<const AdamWPart> parts;  // on the host
  AdamWOutcome* outcome;             // squares is set; on a GPU also whether a rule was broken
};
struct AdamWUpdate {
  std::span<const AdamWPart> parts;  // on the host
  const AdamWNumbers* numbers;
  const real* loss;       // one element, or null
  AdamWOutcome* outcome;  // as GradientSquares left it; taken is set
  real beta1, beta2, eps;
};
// The factor that brings a norm down to `clip`.
FPRNN_HOST_DEVICE inline double clip_factor(double norm, double clip) {
  const double factor = clip / (norm + 1e-6);
  return factor < 1 ? factor : 1;
}
// Whether gradients that have this norm and are scaled by that can be taken; NaN and infinity
// cannot.
FPRNN_HOST_DEVICE inline bool can_be_taken(double norm, double factor) {
  return norm * factor <= kLongestGradient;
}
void run(Cpu, const GradientSquares&);
void run(Cuda, const GradientSquares&);
void run(Cpu, const AdamWUpdate&);
void run(Cuda, const AdamWUpdate&);

}  // namespace fprnn
