// The options that all task executables share, by what they decide, and what is made of them.
#pragma once

#include <fprnn/models/model_settings.h>
#include <fprnn/tasks/run/train.h>

namespace fprnn {

// The settings of training, with those that users write as text.
struct TrainSettings {
  // Those that are numbers or switches.
  TrainOptions numbers = {.lr = 3e-3, .warmup = 20, .adamw = {.weight_decay = 0.1}};
  // Text, from which train_options makes the others.
  std::string betas = "0.9,0.999", schedule = "cosine", iteration_cap = "none", curriculum = "none",
              final_state_dropout = "same", keep = "last";
};

// Where a run computes, what it saves and evaluates, and what to do this time.
struct RunSettings {
  // Each by its name; auto: a GPU if there is one.
  std::string preset = {}, device = "auto", matmul_precision = "fp32";
  int64_t threads = 0;    // of the CPU, 0: as ContextOptions
  double time_limit = 0;  // seconds, 0: none
  int64_t checkpoint_every = 1000, eval_every = 0, log_every = 10;  // steps, 0: only at the end
  std::vector<int64_t> eval_lengths = {16, 24, 32, 48, 64, 128};    // evaluated at
  int64_t eval_sequences = 2048;                                    // of each length
  // What to do this time.
  std::string out = {}, config = {}, resume = {}, evaluate = {}, predict = {}, compare = {},
              seeds = {};
  int64_t jobs = 1, dump = 0;
};

struct Options {
  ModelSettings model;
  TrainSettings train = {};
  RunSettings run = {};

  explicit Options(ModelRegistry models = built_in_models()) : model(std::move(models)) {}
};
// Declares all of them; the options must outlive the settings.
void add_to(Settings& settings, Options& options);

// Everything that can be said of settings before there is a task or a model. ValueError,
// UsageError: one is out of range, or names by the user's own words what the model does not have.
void check(const Options& options, const Settings& settings);

// With what the texts say. ValueError: a name, number or combination out of range.
TrainOptions train_options(const TrainSettings& settings);
// Where to compute, for models that all can on a GPU or not. DeviceError: a device that is not
// there. UsageError: one that a model cannot compute on.
Context open_device(const RunSettings& run, bool may_use_gpu = true);
inline Context context_of(const Options& options) {
  return open_device(options.run, !options.model.any_has(&ModelKind::cpu_only));
}

}  // namespace fprnn
