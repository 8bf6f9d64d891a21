// AdamW (Loshchilov, Hutter, arXiv 1711.05101) with clipping by the global norm, and the
// learning-rate schedule.
#pragma once

#include <fprnn/models/module.h>
#include <fprnn/ops/adamw_update.h>

#include <limits>

namespace fprnn {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999;  // decay of the moments, in [0, 1)
  double eps = 1e-8;
  double weight_decay = 0.01;  // of those that decay; decoupled: value -= lr weight_decay value
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
  static constexpr int64_t kMaxSteps = int64_t{1} << 53;  // that an optimiser may take

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
  // which waits and may throw what was found wrong meanwhile (core/fault.h). UsageError: not
  // prepared, or a tensor of another Context.
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
  std::vector<AdamWPart> parts() const;
  std::vector<Slot> slots_;
  std::shared_ptr<Storage> numbers_;  // AdamWNumbers of the step
  std::shared_ptr<Storage> outcome_;  // AdamWOutcome
  AdamWOptions options_;
  int64_t steps_ = 0;
};

// Linear warm-up to `peak`, then down to `end`, which would be reached one step after the last:
// along half a cosine, in a straight line, or not at all.
enum class Decline { cosine, linear, none };
Decline decline_named(std::string_view name);  // cosine, linear, constant; ValueError

// The rate of each step.
struct Schedule {
  double peak;     // the largest rate
  int64_t warmup;  // steps
  int64_t steps;   // in all
  Decline decline = Decline::cosine;
  double end = 0;                         // of cosine and linear
  double operator()(int64_t step) const;  // step 0 is the first
};

}  // namespace fprnn
