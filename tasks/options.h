// The options that all task executables share, by what they decide, and what is made of them.
#pragma once

#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/models/sequence_model.h>
#include <fprnn/tasks/settings.h>
#include <fprnn/tasks/train.h>

namespace fprnn {

struct ModelSettings {
  std::string model = "fp-mamba";
  int64_t d_model = 64, d_state = 16, layers = 1, expand = 2;
  bool short_conv = false;
  std::string mixer = "kronecker";
  int64_t rank = 1;
  double mixer_scale = 2;
  std::string mixer_normalisation = "row", mixer_input = "concatenated";
  std::string hidden_dependence = "q,b,c";
  bool bc_norm = true, glu_in_loop = false;
};

struct SolverSettings {
  std::string solver = "auto", gradient = "one-step";
  double tolerance = 1e-4;
  int64_t max_iterations = 1000;
};

struct TrainSettings {
  int64_t steps = 1000, batch_size = 64, warmup = 20, train_length = 16;
  double lr = 3e-3, weight_decay = 0.1, clip = 1, state_dropout = 0;
  std::string betas = "0.9,0.999", schedule = "cosine", iteration_cap = "none", curriculum = "none";
  uint64_t seed = 0;
};

struct RunSettings {
  std::string preset = {}, device = "auto", matmul_precision = "fp32";
  int64_t threads = 0;
  double time_limit = 0;                                            // seconds, 0: none
  int64_t checkpoint_every = 1000, eval_every = 0, log_every = 10;  // steps, 0: only at the end
  std::vector<int64_t> eval_lengths = {16, 24, 32, 48, 64, 128};
  int64_t eval_sequences = 2048;
  // What to do this time.
  std::string out = {}, config = {}, resume = {}, evaluate = {}, compare = {};
};

struct Options {
  ModelSettings model;
  SolverSettings solver;
  TrainSettings train;
  RunSettings run;
};
void add_to(Settings& settings, Options& options);

// Everything that can be said of settings before there is a device, a task or a model. ValueError,
// UsageError: one is out of range, or names by the user's own words what the model does not have.
void check(const Options& options, const Settings& settings);

// ValueError: a name, number or combination out of range.
SolverOptions solver_options(const SolverSettings& settings);
TrainOptions train_options(const TrainSettings& settings);
std::unique_ptr<SequenceModel> make_model(const ModelSettings& model, const SolverOptions& solver,
                                          int64_t vocabulary, const Init& init);
// DeviceError: a device that is not there.
Context open_device(const RunSettings& run);

}  // namespace fprnn
