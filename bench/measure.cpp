#include "bench.h"

#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>

#include <algorithm>
#include <chrono>

namespace fprnn {

FPRNN_KERNEL(void bench_exponentials(real* x, int64_t count, int64_t repeats))

namespace bench {

namespace {

double seconds_of(const std::function<void()>& work, int64_t repeats) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < repeats; ++i) work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::vector<double> medians(const Options& options,
                            const std::vector<std::function<void()>>& alternatives) {
  std::vector<int64_t> repeats;
  for (const auto& work : alternatives) {
    work();  // warm-up
    const double once = seconds_of(work, 1);
    repeats.push_back(std::max<int64_t>(1, static_cast<int64_t>(options.seconds / once)));
  }
  std::vector<std::vector<double>> times(alternatives.size());
  for (int run = 0; run < options.runs; ++run)
    for (size_t i = 0; i < alternatives.size(); ++i)
      times[i].push_back(seconds_of(alternatives[i], repeats[i]) / repeats[i] * 1e3);
  std::vector<double> result;
  for (auto& samples : times) {
    std::ranges::nth_element(samples, samples.begin() + samples.size() / 2);
    result.push_back(samples[samples.size() / 2]);
  }
  return result;
}

double median(const Options& options, const std::function<void()>& work) {
  return medians(options, {work}).front();
}

std::vector<Result> copy(const Context& context, const Options& options) {
  const int64_t count = 24 << 20;
  const Tensor from = zeros(context, {count}), to = zeros(context, {count});
  const double milliseconds = median(options, [&] { fprnn::copy(from, to); });
  const double bytes = 2.0 * count * sizeof(real);
  return {{.name = "copy",
           .parameters = {{"megabytes", std::to_string(count * sizeof(real) >> 20)}},
           .threads = context.threads(),
           .milliseconds = milliseconds,
           .gigabytes_per_second = bytes / milliseconds / 1e6,
           .runs = options.runs}};
}

std::vector<Result> exponential(const Context& context, const Options& options) {
  const Cpu cpu{context};
  const int64_t count = 4096, repeats = 256, threads = context.threads();
  const Tensor x = zeros(context, {threads, count});
  const auto kernel = FPRNN_SELECT(cpu, bench_exponentials);
  const double milliseconds = median(options, [&] {
    parallel_pieces(cpu, threads, [&](int64_t i) { kernel(x.data() + i * count, count, repeats); });
  });
  const double flops = static_cast<double>(threads * count * repeats);
  return {{.name = "exp",
           .parameters = {{"count", std::to_string(count)}},
           .threads = context.threads(),
           .milliseconds = milliseconds,
           .gigaflops = flops / milliseconds / 1e6,  // one exponential counts as one
           .runs = options.runs}};
}

Limits machine_limits(const Context& context, const Options& options) {
  return {copy(context, options)[0].gigabytes_per_second * 1e9,
          exponential(context, options)[0].gigaflops * 1e9};
}

}  // namespace bench

}  // namespace fprnn
