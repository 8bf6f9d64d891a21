// Measurements: how long something takes, as the median of several runs, against what the machine could do.
#pragma once

#include <fprnn/config.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/model_settings.h>
#include <fprnn/ops/scan.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace fprnn::bench {

struct Options {
  int threads = 0;
  int runs = 15;          // medians are over these
  double seconds = 0.02;  // each run repeats the work until it lasts so long
  bool full = false;      // gemm: every size of the table instead of a selection
  std::string device = "cpu", matmul_precision = "fp32";
  // Of layer, lengths, train and decode; 0, as the model's width and layers: what that benchmark
  // has by itself.
  int64_t batch = 0, length = 0;
  ModelSettings* model = nullptr;
  const Settings* settings = nullptr;  // the model's
};

// Sizes by name, as a line prints them.
using Sizes = std::map<std::string, std::string>;
Sizes sizes(std::initializer_list<std::pair<const char*, int64_t>> named);

// One line of the output. Of the three rates the one that says something is not zero.
struct Result {
  std::string name;
  Sizes parameters;
  double milliseconds = 0;
  double tokens_per_second = 0, gigabytes_per_second = 0, gigaflops = 0;
  int runs = 0;
  double limit_milliseconds =
      0;                      // what the roofline allows, or the rival's time; 0 if there is none
  std::string how = "calls";  // what was timed (Timing)
};

// One that was timed. On a GPU work is recorded into a graph whose replays are timed, so that neither the
// host nor the gaps between kernels count: "graph". Work that reads numbers back cannot be; it is
// called as it is, and the device waited for at the end of each run: "calls, not recorded".
struct Timing {
  double milliseconds = 0;
  std::string how = "calls";
};

// Times alternatives against each other: every run times each once, so that noise meets all alike. Returns
// the medians. What the alternatives write to must outlive the call.
using Work = std::function<void()>;
std::vector<Timing> medians(const Context& context, const Options& options,
                            const std::vector<Work>& alternatives);
double median(const Context& context, const Options& options, const Work& work);
// Of calls that wait for their own end and are never recorded by us.
double median_of_calls(const Options& options, const Work& call);

// The same, and behind them, for each number of bytes, the fastest copy that moves as many, read and written
// both counted: what the device's memory can do. On a GPU that is the driver's or one of ours; the
// driver's in a graph is at some sizes a third slower.
std::vector<Timing> medians_and_copies(const Context& context, const Options& options,
                                       std::vector<Work> alternatives,
                                       const std::vector<double>& bytes);
void copy_by_kernel(const Context& context, const Tensor& from,
                    const Tensor& to);  // of builds with CUDA alone

// Exponentials and multiply-adds a second: on the CPU those of the kernels' own instruction set, out
// of registers and the first-level cache, as measured. On a GPU exponentials are counted instead:
// 16 a clock and multiprocessor, at its highest clock.
double exponentials_per_second(const Context& context, const Options& options);
double multiply_adds_per_second(const Context& context, const Options& options);
double gpu_exponentials_per_second();  // of builds with CUDA alone

// The tensors of a scan and of its gradient, the contracts over them, and the bytes that each moves at least.
struct ScanCase {
  Tensor a, b, h, dh, da, db, dh0;
  ScanForward forward;
  ScanBackward backward;
  double bytes[2];
  ScanCase(const Context& context, const Shape& shape);
};

// Sizes that were not asked for are the benchmark's own.
Options with_sizes(Options options, int64_t batch, int64_t length, int64_t d_model,
                   int64_t layers = 1);
// What distinguishes measurements of a layer: its settings, its sizes, how its last solves went.
Sizes parameters_of(const Options& options, const Layer& layer);

using Benchmark = std::vector<Result> (*)(const Context&, const Options&);
std::vector<Result> copy(const Context& context, const Options& options);
std::vector<Result> arithmetic(const Context& context, const Options& options);
std::vector<Result> gemm(const Context& context, const Options& options);
std::vector<Result> scan(const Context& context, const Options& options);
std::vector<Result> selective_scan(const Context& context, const Options& options);
std::vector<Result> gated(const Context& context, const Options& options);
std::vector<Result> delta_rule(const Context& context, const Options& options);
std::vector<Result> ssd_scan(const Context& context, const Options& options);
std::vector<Result> mlstm(const Context& context, const Options& options);
std::vector<Result> attention(const Context& context, const Options& options);
std::vector<Result> ladder(const Context& context, const Options& options);
std::vector<Result> gpu_ladder(const Context& context,
                               const Options& options);  // of builds with CUDA alone
std::vector<Result> layer(const Context& context, const Options& options);
std::vector<Result> lengths(const Context& context, const Options& options);
std::vector<Result> train(const Context& context, const Options& options);
std::vector<Result> decode(const Context& context, const Options& options);

}  // namespace fprnn::bench
