// Measurements: how long something takes, as the median of several runs, against what the machine could do.
#pragma once

#include <fprnn/core/context.h>

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
  int64_t batch = 64, length = 17, d_model = 64, d_state = 16;  // of layer
  std::string model = "mamba", mixer = "householder", solver = "sequential", gradient = "one-step";
  int64_t rank = 1, max_iterations = 1000;
  double mixer_scale = 2, tolerance = 1e-4;
};

// One line of the output. Of the three rates the one that says something is not zero.
struct Result {
  std::string name;
  std::map<std::string, std::string> parameters;
  int threads = 1;
  double milliseconds = 0;
  double tokens_per_second = 0, gigabytes_per_second = 0, gigaflops = 0;
  int runs = 0;
  double limit_milliseconds =
      0;  // what the roofline allows, or the rival's time; 0 if there is none
};

// Times alternatives against each other: every run times each once, so that noise meets all alike. Returns
// the medians in milliseconds.
std::vector<double> medians(const Options& options,
                            const std::vector<std::function<void()>>& alternatives);
double median(const Options& options, const std::function<void()>& work);

// What the machine can do: milliseconds for a copy that moves so many bytes (read and written, both counted),
// and exponentials and multiply-adds a second of the kernels' own instruction set, out of registers
// and the first-level cache.
double copy_milliseconds(const Context& context, const Options& options, double bytes);
double exponentials_per_second(const Context& context, const Options& options);
double multiply_adds_per_second(const Context& context, const Options& options);

using Benchmark = std::vector<Result> (*)(const Context&, const Options&);
std::vector<Result> copy(const Context& context, const Options& options);
std::vector<Result> arithmetic(const Context& context, const Options& options);
std::vector<Result> gemm(const Context& context, const Options& options);
std::vector<Result> scan(const Context& context, const Options& options);
std::vector<Result> selective_scan(const Context& context, const Options& options);
std::vector<Result> layer(const Context& context, const Options& options);

}  // namespace fprnn::bench
