// AdamW (Loshchilov, Hutter, arXiv 1711.05101) with clipping by the global norm, and the
// learning-rate schedule.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/models/module.h>

namespace fprnn {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay =
      0.01;  // of parameters that decay; decoupled: value -= lr weight_decay value
};

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

  // ValueError: betas outside [0, 1), eps not positive, weight_decay negative.
  AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options);

  // The Euclidean norm of all gradients together, in double. Parameters without one count as zero.
  double gradient_norm() const;
  // One update with the gradients multiplied by `gradient_scale`, then dropped. Parameters without
  // a gradient stay as they are.
  void step(double lr, double gradient_scale = 1);

  // Shares its tensors with the optimiser, whose next step changes them.
  AdamWState state() const;
  // Copies a state into the optimiser. ValueError, ShapeError: steps are outside [0, kMaxSteps], or
  // the parameters are not the optimiser's in its order; then nothing has changed.
  void restore(const AdamWState& state);

  // The factor that brings a norm down to `clip`: min(1, clip / (norm + 1e-6)).
  static double clip_factor(double norm, double clip);

 private:
  struct Slot {
    std::string path;
    Parameter* parameter;
    Tensor mean, variance;  // running moments of the gradient
  };
  std::vector<Slot> slots_;
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

struct AdamWUpdate {
  real* value;           // (count)
  real* mean;            // (count)
  real* variance;        // (count)
  const real* gradient;  // (count)
  int64_t count;
  real gradient_scale;
  real beta1, beta2;
  real shrink;               // 1 - lr weight_decay
  real step_size;            // lr / (1 - beta1^t)
  real variance_correction;  // 1 / sqrt(1 - beta2^t)
  real eps;
};
void run(Cpu, const AdamWUpdate&);
void run(Cuda, const AdamWUpdate&);

}  // namespace fprnn
