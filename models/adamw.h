// AdamW (Loshchilov, Hutter, arXiv 1711.05101) with clipping by the global norm, and the
// learning-rate schedule.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/models/module.h>

#include <limits>
#include <span>

namespace fprnn {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay =
      0.01;  // of parameters that decay; decoupled: value -= lr weight_decay value
};

// The longest gradient, after clipping, whose squares the second moments can hold, with room for
// rounding. An infinite one would stay so for good.
inline constexpr double kLongestGradient = kDouble ? 1.3e154 : 1.8e19;

// What a step depends on beside values, gradients and options.
struct AdamWMoments {
  std::string path;  // of the parameter
  Tensor mean, variance;
};
struct AdamWState {
  int64_t steps = 0;  // taken so far
  std::vector<AdamWMoments> moments = {};
};

class AdamW {
 public:
  static constexpr int64_t kMaxSteps = int64_t{1} << 53;

  // ValueError: betas outside [0, 1) or eps not positive, also once they are rounded to real;
  // weight_decay negative; eps or weight_decay not finite.
  AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options);

  // The Euclidean norm of all gradients together, in double. Parameters without one count as zero.
  double gradient_norm() const;

  // One update with the gradients scaled down to the norm `clip`, then dropped. Parameters without
  // a gradient stay as they are. A step is not taken, and nothing changes, where no parameter has a
  // gradient, where the norm or a loss that is given is not finite, and where the norm after
  // clipping is above kLongestGradient. ValueError: lr negative or beyond real, clip not positive
  // (infinity: none). ShapeError: a parameter's value or gradient has another shape than its
  // moments.
  struct Outcome {
    double gradient_norm;  // before clipping
    bool taken;
  };
  Outcome step(double lr, double clip = std::numeric_limits<double>::infinity());

  // The same in three parts, for a step that is recorded once and repeated (core/graph.h): what is
  // new each time; the work, which waits for nothing and leaves the gradients; and what came of it,
  // which waits and may throw what the device found wrong (core/fault.h). UsageError: not prepared,
  // or a tensor of another Context.
  void prepare(double lr, double clip);
  void enqueue(const Tensor& loss = {});  // (1)
  Outcome finish();

  // Shares its tensors with the optimiser, whose next step changes them.
  AdamWState state() const;
  // Copies a state into the optimiser. ValueError, ShapeError: steps are outside [0, kMaxSteps], or
  // the parameters are not the optimiser's in its order; then nothing has changed.
  void restore(const AdamWState& state);

 private:
  struct Slot {
    std::string path;
    Parameter* parameter;
    Tensor mean, variance;  // running moments of the gradient
  };
  std::vector<struct AdamWPart> parts() const;
  std::vector<Slot> slots_;
  std::shared_ptr<Storage> numbers_;  // AdamWNumbers of the step
  std::shared_ptr<Storage> outcome_;  // AdamWOutcome
  AdamWOptions options_;
  int64_t steps_ = 0;
};

// Linear warm-up to `peak`, then down to 0, which would be reached one step after the last: along
// half a cosine, in a straight line, or not at all.
enum class Decline { cosine, linear, none };
Decline decline_named(std::string_view name);  // cosine, linear, constant; ValueError

struct Schedule {
  double peak;
  int64_t warmup;  // steps
  int64_t steps;   // in all
  Decline decline = Decline::cosine;
  double operator()(int64_t step) const;  // step 0 is the first
};

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
  double clip;
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
