// state_tracking: trains a sequence model to follow the word problem of a finite group, and shows
// at which lengths it still does.
#include <fmt/format.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/mamba.h>
#include <fprnn/tasks/train.h>
#include <fprnn/tasks/word_problem.h>
#include <CLI/CLI.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace {

using namespace fprnn;

struct Options {
  std::string group = "S3";
  std::string model = "mamba";
  std::string device = "auto";
  std::vector<int64_t> eval_lengths = {8, 16, 32};
  int64_t eval_sequences = 2048;
  int64_t d_model = 64, d_state = 16, layers = 1;
  int threads = 0;
  std::string mixer = "kronecker", solver = "sequential", gradient = "one-step";
  int64_t rank = 1, max_iterations = 100;
  double mixer_scale = 2, tolerance = 1e-4;
  bool time_solvers = false;
  TrainOptions train{.steps = 400, .batch_size = 64, .length = 8, .lr = 3e-3, .warmup = 20};
};

void add_fixed_point_options(CLI::App& app, Options& o) {
  app.add_option("--mixer", o.mixer, "fp-mamba: kronecker, householder or dplr")
      ->capture_default_str();
  app.add_option("--rank", o.rank, "Rank of householder and dplr")->capture_default_str();
  app.add_option("--mixer-scale", o.mixer_scale, "1 contracts, 2 allows reflections")
      ->capture_default_str();
  app.add_option("--solver", o.solver, "sequential, parallel or patience")->capture_default_str();
  app.add_option("--gradient", o.gradient, "one-step, neumann:K or exact")->capture_default_str();
  app.add_option("--tolerance", o.tolerance, "Residual that the solver aims at")
      ->capture_default_str();
  app.add_option("--max-iterations", o.max_iterations, "The solver's cap")->capture_default_str();
  app.add_flag("--time-solvers", o.time_solvers,
               "After training, iterations and time of either solver at the evaluation lengths");
}

void add_options(CLI::App& app, Options& o) {
  app.add_option("--group", o.group, "Z<n>, S<n>, A<n> (n <= 5) or a product such as A4xZ5")
      ->capture_default_str();
  app.add_option("--model", o.model, "mamba or fp-mamba")
      ->check(CLI::IsMember({"mamba", "fp-mamba"}))
      ->capture_default_str();
  add_fixed_point_options(app, o);
  app.add_option("--train-length", o.train.length, "Group elements in a training sequence")
      ->capture_default_str();
  app.add_option("--eval-lengths", o.eval_lengths, "Lengths to evaluate at, comma-separated")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--eval-sequences", o.eval_sequences, "Sequences evaluated at each length")
      ->capture_default_str();
  app.add_option("--d-model", o.d_model, "Width of the residual stream")->capture_default_str();
  app.add_option("--d-state", o.d_state, "States of each channel")->capture_default_str();
  app.add_option("--layers", o.layers, "Layers")->capture_default_str();
  app.add_option("--steps", o.train.steps, "Training steps")->capture_default_str();
  app.add_option("--batch-size", o.train.batch_size, "Sequences in a step")->capture_default_str();
  app.add_option("--lr", o.train.lr, "Peak learning rate, cosine to 0")->capture_default_str();
  app.add_option("--warmup", o.train.warmup, "Steps of linear warm-up")->capture_default_str();
  app.add_option("--weight-decay", o.train.adamw.weight_decay, "Decoupled weight decay")
      ->capture_default_str();
  app.add_option("--clip", o.train.clip, "Largest global gradient norm")->capture_default_str();
  app.add_option("--seed", o.train.seed, "Seed of weights and data")->capture_default_str();
  app.add_option("--device", o.device, "auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--threads", o.threads, "CPU threads, 0 for all cores")->capture_default_str();
}

Context open_device(const Options& o) {
  require<DeviceError>(o.device != "cuda", "state_tracking",
                       "this build must have CUDA to use the device", o.device);
  const Context context = Context::cpu({.threads = o.threads});
  fmt::print("device cpu, {} threads, {}\n", context.threads(), describe(context.isa()));
  return context;
}

// The index of the largest logit at each token, (B, T).
IntTensor largest_of_each(const Tensor& logits) {
  const int64_t V = logits.size(-1);
  const IntTensor best(logits.context(), logits.shape().without(-1));
  for (int64_t i = 0; i < best.elements(); ++i) {
    const real* row = logits.data() + i * V;
    best.data()[i] = static_cast<int32_t>(std::max_element(row, row + V) - row);
  }
  return best;
}

// A line that is rewritten on a terminal, and a plain one every few seconds otherwise.
class Progress {
 public:
  explicit Progress(int64_t steps) : steps_(steps), live_(isatty(STDOUT_FILENO)) {}
  void show(const StepMetrics& m) {
    const bool last = m.step == steps_;
    if (m.step != 1 && !last && m.seconds < next_) return;
    next_ = m.seconds + (live_ ? 0.2 : 2);
    const double left =
        m.seconds / static_cast<double>(m.step) * static_cast<double>(steps_ - m.step);
    fmt::print(
        "{}step {:>6}/{}  loss {:.4f}  norm {:.3f}  lr {:.1e}  {:>7.0f} tokens/s  {:.0f} s left{}",
        live_ ? "\r" : "", m.step, steps_, m.loss, m.gradient_norm, m.lr, m.tokens_per_second, left,
        live_ && !last ? "   " : "   \n");
    std::fflush(stdout);
  }

 private:
  int64_t steps_;
  bool live_;
  double next_ = 0;
};

void evaluate(SequenceModel& model, const WordProblem& task, const Context& context,
              const Options& o) {
  fmt::print("\n{:>6}  {:>22}  {:>8}  {:>10}\n", "length", "whole sequences right", "tokens",
             "last token");
  for (const int64_t length : o.eval_lengths) {
    const Batch batch =
        task.sample(context, evaluation_stream(o.train.seed, length), o.eval_sequences, length);
    NoGrad tape(context);
    const Accuracy a = accuracy(model.forward(tape, batch.tokens).value(), batch.targets);
    const double error =
        std::sqrt(a.sequence * (1 - a.sequence) / static_cast<double>(o.eval_sequences));
    fmt::print("{:>6}  {:>13.4f} +- {:.4f}  {:>8.4f}  {:>10.4f}\n", length, a.sequence, error,
               a.token, a.last_token);
  }
}

FpMambaOptions fp_mamba_options(const Options& o) {
  return {.d_model = o.d_model,
          .d_state = o.d_state,
          .layers = o.layers,
          .mixer = mixer_named(o.mixer),
          .rank = o.rank,
          .scale = static_cast<real>(o.mixer_scale),
          .solver = {.solver = solver_named(o.solver),
                     .tolerance = static_cast<real>(o.tolerance),
                     .max_iterations = o.max_iterations,
                     .gradient = gradient_named(o.gradient),
                     .unconverged = Unconverged::accept}};
}

// The first layer's iterations and the whole model's time for 64 sequences of each length, and the share of
// tokens that both solvers predict alike.
void time_solvers(SequenceModel& model, FpMamba& layer, const WordProblem& task,
                  const Context& context, const Options& o) {
  fmt::print("\n{:>6}  {:>10}  {:>10}  {:>11}  {:>12}  {:>9}\n", "length", "solver", "iterations",
             "unconverged", "milliseconds", "agreement");
  constexpr int64_t kSequences = 64, kCap = 1000;
  for (const int64_t length : o.eval_lengths) {
    const Batch batch =
        task.sample(context, evaluation_stream(o.train.seed, length), kSequences, length);
    IntTensor predicted;  // by the first
    for (const Solver solver : {Solver::sequential, Solver::parallel}) {
      layer.solver.solver = solver;
      layer.solver.max_iterations = kCap;
      NoGrad tape(context);
      const auto start = std::chrono::steady_clock::now();
      const Tensor logits = model.forward(tape, batch.tokens).value();
      const std::chrono::duration<double, std::milli> spent =
          std::chrono::steady_clock::now() - start;
      const IntTensor guess = largest_of_each(logits);
      if (!predicted.defined()) predicted = guess;
      int64_t alike = 0;
      for (int64_t i = 0; i < guess.elements(); ++i)
        alike += guess.data()[i] == predicted.data()[i];
      fmt::print("{:>6}  {:>10}  {:>10.1f}  {:>11}  {:>12.1f}  {:>9.4f}\n", length, name_of(solver),
                 layer.report().mean_iterations(), layer.report().unconverged(), spent.count(),
                 static_cast<double>(alike) / static_cast<double>(guess.elements()));
    }
  }
}

void run_task(const Options& o) {
  const Context context = open_device(o);
  const WordProblem task(group_named(o.group));
  Rng rng = initial_stream(o.train.seed);
  const MambaOptions layer{.d_model = o.d_model, .d_state = o.d_state, .layers = o.layers};
  FpMamba* first = nullptr;  // of the layers, if they are fixed points
  SequenceModel model(
      {context, rng},
      {.vocabulary = task.vocabulary(),
       .d_model = o.d_model,
       .layers = o.layers,
       .make_layer = [&](Module& parent, std::string name, const Init& init) {
         if (o.model == "mamba")
           return std::unique_ptr<Layer>(new Mamba(parent, std::move(name), init, layer));
         auto made = std::make_unique<FpMamba>(parent, std::move(name), init, fp_mamba_options(o));
         if (first == nullptr) first = made.get();
         return std::unique_ptr<Layer>(std::move(made));
       }});
  fmt::print("{} on {}, {} parameters, trained at length {}\n", o.model, o.group,
             model.parameter_count(), o.train.length);
  Progress progress(o.train.steps);
  train(model, task, context, o.train, [&](const StepMetrics& metrics) {
    progress.show(metrics);
    return true;
  });
  evaluate(model, task, context, o);
  if (o.time_solvers && first != nullptr) time_solvers(model, *first, task, context, o);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trains a sequence model on the word problem of a finite group."};
  Options options;
  add_options(app, options);
  try {
    app.parse(argc, argv);
    run_task(options);
    return 0;
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return 2;
  } catch (const ValueError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
