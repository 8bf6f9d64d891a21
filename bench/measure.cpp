#include "bench.h"

#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>

#include <algorithm>
#include <chrono>

namespace fprnn {

FPRNN_KERNEL(void bench_exponentials(real* x, int64_t count, int64_t repeats))
FPRNN_KERNEL(int64_t bench_multiply_adds(real* x, int64_t repeats))

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

double copy_milliseconds(const Context& context, const Options& options, double bytes) {
  const int64_t count = static_cast<int64_t>(bytes / 2 / sizeof(real));
  const Tensor from = zeros(context, {count}), to = zeros(context, {count});
  return median(options, [&] { fprnn::copy(from, to); });
}

double exponentials_per_second(const Context& context, const Options& options) {
  const Cpu cpu{context};
  const int64_t count = 4096, repeats = 256, threads = context.threads();
  const Tensor x = zeros(context, {threads, count});
  const auto kernel = FPRNN_SELECT(cpu, bench_exponentials);
  const double milliseconds = median(options, [&] {
    parallel_pieces(cpu, threads, [&](int64_t i) { kernel(x.data() + i * count, count, repeats); });
  });
  return static_cast<double>(threads * count * repeats) / milliseconds * 1e3;
}

double multiply_adds_per_second(const Context& context, const Options& options) {
  const Cpu cpu{context};
  const int64_t threads = context.threads(), room = 64;
  const Tensor x = zeros(context, {threads, room});
  const auto kernel = FPRNN_SELECT(cpu, bench_multiply_adds);
  std::vector<int64_t> done(threads);
  const double milliseconds = median(options, [&] {
    parallel_pieces(cpu, threads,
                    [&](int64_t i) { done[i] = kernel(x.data() + i * room, 100'000); });
  });
  return static_cast<double>(threads * done[0]) / milliseconds * 1e3;
}

std::vector<Result> copy(const Context& context, const Options& options) {
  std::vector<Result> results;
  for (const double megabytes : {2.0, 32.0, 192.0}) {
    const double milliseconds = copy_milliseconds(context, options, megabytes * 1e6);
    results.push_back({.name = "copy",
                       .parameters = {{"megabytes moved", std::to_string(int(megabytes))}},
                       .threads = context.threads(),
                       .milliseconds = milliseconds,
                       .gigabytes_per_second = megabytes / milliseconds,
                       .runs = options.runs});
  }
  return results;
}

std::vector<Result> arithmetic(const Context& context, const Options& options) {
  const double exponentials = exponentials_per_second(context, options) / 1e9;
  const double multiply_adds = multiply_adds_per_second(context, options) / 1e9;
  // Milliseconds for 10^9 of them; an exponential counts as one operation, a multiply-add as two.
  return {{.name = "exponentials",
           .parameters = {},
           .threads = context.threads(),
           .milliseconds = 1e3 / exponentials,
           .gigaflops = exponentials,
           .runs = options.runs},
          {.name = "multiply-adds",
           .parameters = {},
           .threads = context.threads(),
           .milliseconds = 1e3 / multiply_adds,
           .gigaflops = 2 * multiply_adds,
           .runs = options.runs}};
}

}  // namespace bench

}  // namespace fprnn
