// What a run leaves behind, as values: a line of metrics.jsonl, eval.json, a run directory.
#pragma once

#include <fprnn/core/context.h>
#include <fprnn/core/settings.h>
#include <fprnn/tasks/protocols.h>

#include <optional>

namespace fprnn {

// Names with numbers, in an order that means something.
using NamedValues = std::vector<std::pair<std::string, double>>;

// How each layer was solved that has fixed points or repeats itself (Layer::solve_report), by its
// number from the embedding up: mean, median and largest of the iterations that its sequences took, or
// its tokens where it counts those, and how many of them missed the tolerance. Of many layers as many
// as an object has room for (kMostNames).
struct LayerSolves {
  NamedValues mean = {}, median = {}, max = {}, unconverged = {};  // by layer

  bool operator==(const LayerSolves&) const = default;
};

// One logged training step. Of a model without fixed points the four fields on iterations are 0.
struct StepMetrics {
  int64_t step = 0;    // the first is 1
  double seconds = 0;  // of training so far, what was interrupted before included
  double loss = 0;
  double accuracy = 0;  // of the batch's tokens
  double lr = 0;
  double grad_norm = 0;        // before clipping
  double iterations_mean = 0;  // of the solves' sequences
  int64_t iterations_max = 0;
  double residual_max = 0;
  int64_t unconverged = 0;  // sequences
  // The same four of the exact gradient's own solves, v = g + J^T v; 0 for other gradients.
  double adjoint_iterations_mean = 0;
  int64_t adjoint_iterations_max = 0;
  double adjoint_residual_max = 0;
  int64_t adjoint_unconverged = 0;
  LayerSolves layers = {};
  int64_t skipped = 0;  // steps so far whose loss or gradient was not finite
  // The loss, that of smoothed labels where training has them, and the speed in the task's own unit, where
  // it has one: bits_per_byte, bytes_per_second.
  NamedValues in_units = {};
  double tokens_per_second = 0;
  std::optional<double> validation_loss = {};  // after the step, where a run asked for it

  bool operator==(const StepMetrics&) const = default;
};

// An interval that holds a share with 95 % confidence; both ends or none.
struct Interval {
  std::optional<double> low = {}, high = {};  // the bounds; nothing: there is no interval

  bool operator==(const Interval&) const = default;
};
// Wilson's, of a share of so many independent trials that came out right: with z = 1.96,
//   (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).
// None where the share is outside of 0 to 1 or there are no trials.
Interval wilson_interval(double share, double trials);

// How a model did on sequences of one length; iterations as in metrics.jsonl.
struct LengthResult {
  int64_t length = 0;
  int64_t sequences = 0;
  NamedValues metrics = {};  // the task's (tasks/metrics.h), the main one first
  Interval wilson = {};      // of the main one, if it is a share of sequences
  double iterations_mean = 0;
  int64_t iterations_max = 0;
  double residual_max = 0;
  int64_t unconverged = 0;
  LayerSolves layers = {};

  double metric(std::string_view name) const;  // NaN: it has none of that name
  bool operator==(const LengthResult&) const = default;
};

// What made a result. Files of programs that did not say it yet read as empty and 0.
struct Origin {
  std::string version = {}, commit = {};  // core/build_info.h
  Machine machine = {};
  uint64_t seed = 0;

  bool operator==(const Origin&) const = default;
};

// A line of starts.jsonl: which program went on from which step.
struct RunStart {
  int64_t step = 0;  // done before
  Origin origin = {};
};

// eval.json: what a model was, and what it reaches.
struct Evaluation {
  std::string task = {};                                // the program's name
  KeyTexts settings = {};                               // the task's own
  std::string model = {};                               // as --model names it
  int64_t parameters = 0;                               // how many numbers are trained
  std::string device = {}, solver = {}, gradient = {};  // the last two empty without fixed points
  int64_t train_length = 0;                             // the length trained at
  int64_t steps = 0;                                    // trained
  double train_seconds = 0;                             // that training took
  Origin origin = {};
  KeyTexts changes = {};  // settings of a model that is run otherwise than it was trained
  // Where --keep best chose the weights: after which `step`, and their `validation_loss`.
  NamedValues kept = {};
  std::string caption = {};  // the main metric in words; empty: its name
  std::vector<LengthResult> lengths = {};
  Protocols protocols = {};  // of the longest

  bool operator==(const Evaluation&) const = default;
};

struct RunResult {
  std::string name = {};           // of its folder
  std::string configuration = {};  // config.json without the line of the seed; empty: there is none
  Evaluation evaluation = {};
  std::vector<StepMetrics> metrics = {};  // for charts: see read_run
};

// The JSON of a line of metrics.jsonl, without the line's end; what is not finite becomes null.
std::string to_json(const StepMetrics& metrics);
std::string to_json(const RunStart& start);
// The JSON of eval.json, a line a length.
std::string to_json(const Evaluation& evaluation);

// Read back what the two above wrote; null reads as NaN. What was written before metrics had names
// is read too: an evaluation's `group` and three accuracies. Where a file has the main one's standard
// error, the interval is computed anew. A line of before 0.2 lacks the adjoint's numbers, that are 0 then.
// FormatError with the name of the source and what is wrong: text that is no JSON, a missing,
// unknown or repeated key, a value of another type or outside its range, more than kMostNames names
// in one object.
constexpr size_t kMostNames = 256;
StepMetrics step_metrics_from_json(const std::string& text, const std::string& source);
Evaluation evaluation_from_json(const std::string& text, const std::string& source);

// Takes each step of a metrics.jsonl, with its line; the last line is ignored if a kill cut it off.
// FormatError with file and line: see above. FileError: it is unreadable or has a line of more than
// 64 KiB.
void for_each_step(
    const std::string& path,
    const std::function<void(const StepMetrics& step, const std::string& line)>& take);

// A run directory with eval.json and, if they are there, metrics.jsonl and config.json. Of many steps at most
// kMostSteps are kept, at equal distances and always the last; iterations_max, residual_max and
// unconverged of one are then the largest since the one before. FormatError, FileError: see above,
// or an eval.json that is unreadable or of more than 64 MB.
constexpr size_t kMostSteps = 20'000;
RunResult read_run(const std::string& folder);
std::string name_of_run(const std::string& folder);  // the last part of its path

}  // namespace fprnn
