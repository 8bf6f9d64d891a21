// state_tracking: trains a sequence model to follow the word problem of a finite group, and shows
// at which lengths it still does.
#include <fmt/format.h>
#include <fprnn/models/mamba.h>
#include <fprnn/tasks/train.h>
#include <fprnn/tasks/word_problem.h>
#include <CLI/CLI.hpp>

#include <unistd.h>

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
  TrainOptions train{.steps = 400, .batch_size = 64, .length = 8, .lr = 3e-3, .warmup = 20};
};

void add_options(CLI::App& app, Options& o) {
  app.add_option("--group", o.group, "Z<n>, S<n>, A<n> (n <= 5) or a product such as A4xZ5")
      ->capture_default_str();
  app.add_option("--model", o.model, "mamba")
      ->check(CLI::IsMember({"mamba"}))
      ->capture_default_str();
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

void run_task(const Options& o) {
  const Context context = open_device(o);
  const WordProblem task(group_named(o.group));
  Rng rng = initial_stream(o.train.seed);
  const MambaOptions layer{.d_model = o.d_model, .d_state = o.d_state, .layers = o.layers};
  SequenceModel model({context, rng},
                      {.vocabulary = task.vocabulary(),
                       .d_model = o.d_model,
                       .layers = o.layers,
                       .make_layer = [&](Module& parent, std::string name, const Init& init) {
                         return std::make_unique<Mamba>(parent, std::move(name), init, layer);
                       }});
  fmt::print("{} on {}, {} parameters, trained at length {}\n", o.model, o.group,
             model.parameter_count(), o.train.length);
  Progress progress(o.train.steps);
  train(model, task, context, o.train, [&](const StepMetrics& metrics) {
    progress.show(metrics);
    return true;
  });
  evaluate(model, task, context, o);
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
