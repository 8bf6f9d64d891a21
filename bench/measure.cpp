#include "bench.h"

#include <fprnn/core/check.h>
#include <fprnn/core/graph.h>
#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <span>

namespace fprnn {

FPRNN_KERNEL(void bench_exponentials(real* x, int64_t count, int64_t repeats))
FPRNN_KERNEL(int64_t bench_multiply_adds(real* x, int64_t repeats))

namespace bench {

namespace {

double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double middle(std::vector<double>& samples) {
  const auto half = samples.begin() + samples.size() / 2;
  std::ranges::nth_element(samples, half);
  return *half;
}

// One of the alternatives, ready to be timed.
class Alternative {
 public:
  Alternative(const Context& context, const Options& options, const Work& work)
      : context_(context), work_(work) {
    work_();  // warm-up: memory is asked for, algorithms are chosen
    double once = measure();
    if (context.device() == DeviceKind::cuda && record()) {
      replay();  // the first one loads it
      once = measure();
      // The start of a graph takes the host microseconds: short work is in it several times.
      constexpr double kShort = 1e-3;
      if (once < kShort) {
        copies_ = std::clamp<int64_t>(static_cast<int64_t>(kShort / once), 1, 64);
        record();
        replay();
        once = measure();
      }
    }
    repeats_ = std::max<int64_t>(1, static_cast<int64_t>(options.seconds / once));
  }

  double milliseconds() {  // for each time that the work is done
    const double seconds = seconds_of([&] {
      for (int64_t i = 0; i < repeats_; ++i) start();
      context_.synchronise();
    });
    return seconds * 1e3 / static_cast<double>(repeats_ * copies_);
  }
  std::string how() const {
    if (context_.device() == DeviceKind::cpu) return "calls";
    return graph_ != nullptr ? "graph" : "calls, not recorded";
  }

 private:
  bool record() {
    graph_ = nullptr;  // its memory goes first
    try {
      graph_ = capture_graph(context_, [&] {
        for (int64_t i = 0; i < copies_; ++i) work_();
      });
      return true;
    } catch (const UsageError&) {  // it reads numbers back
      return false;
    }
  }
  void start() { graph_ != nullptr ? graph_->replay() : work_(); }
  void replay() {
    start();
    context_.synchronise();
  }
  double measure() {
    context_.synchronise();
    return seconds_of([&] { replay(); });
  }

  Context context_;
  Work work_;
  std::unique_ptr<Graph> graph_;
  int64_t copies_ = 1;   // of the work in the graph
  int64_t repeats_ = 1;  // in a run
};

}  // namespace

std::vector<Timing> medians(const Context& context, const Options& options,
                            const std::vector<Work>& works) {
  std::vector<Alternative> alternatives;
  for (const Work& work : works) alternatives.emplace_back(context, options, work);
  std::vector<std::vector<double>> times(works.size());
  for (int run = 0; run < options.runs; ++run)
    for (size_t i = 0; i < works.size(); ++i) times[i].push_back(alternatives[i].milliseconds());
  std::vector<Timing> result;
  for (size_t i = 0; i < works.size(); ++i)
    result.push_back({middle(times[i]), alternatives[i].how()});
  return result;
}

double median(const Context& context, const Options& options, const Work& work) {
  return medians(context, options, {work}).front().milliseconds;
}

double median_of_calls(const Options& options, const Work& call) {
  const int64_t repeats =
      std::max<int64_t>(1, static_cast<int64_t>(options.seconds / seconds_of(call)));
  std::vector<double> times;
  for (int run = 0; run < options.runs; ++run)
    times.push_back(seconds_of([&] {
                      for (int64_t i = 0; i < repeats; ++i) call();
                    }) *
                    1e3 / static_cast<double>(repeats));
  return middle(times);
}

std::vector<Timing> medians_and_copies(const Context& context, const Options& options,
                                       std::vector<Work> alternatives,
                                       const std::vector<double>& bytes) {
  const size_t first = alternatives.size();
  for (const double moved : bytes) {
    constexpr int64_t kQuad = 16, kOfQuad = kQuad / sizeof(real);
    const Tensor from = zeros(context, {static_cast<int64_t>(moved / 2 / kQuad) * kOfQuad});
    const Tensor to = clone(from);
    alternatives.push_back([=] { fprnn::copy(from, to); });
    if constexpr (built_with_cuda())
      if (context.device() == DeviceKind::cuda)
        alternatives.push_back([=] { copy_by_kernel(context, from, to); });
  }
  std::vector<Timing> times = medians(context, options, alternatives);
  const size_t ways = bytes.empty() ? 0 : (times.size() - first) / bytes.size();
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto of_one = std::span(times).subspan(first + i * ways, ways);
    times[first + i] = *std::ranges::min_element(of_one, {}, &Timing::milliseconds);
  }
  times.resize(first + bytes.size());
  return times;
}

double exponentials_per_second(const Context& context, const Options& options) {
  if constexpr (built_with_cuda())
    if (context.device() == DeviceKind::cuda) return gpu_exponentials_per_second();
  const Cpu cpu{context};
  const int64_t count = 4096, repeats = 256, threads = context.threads();
  const Tensor x = zeros(context, {threads, count});
  const auto kernel = FPRNN_SELECT(cpu, bench_exponentials);
  const double milliseconds = median(context, options, [&] {
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
  const double milliseconds = median(context, options, [&] {
    parallel_pieces(cpu, threads,
                    [&](int64_t i) { done[i] = kernel(x.data() + i * room, 100'000); });
  });
  return static_cast<double>(threads * done[0]) / milliseconds * 1e3;
}

// On the CPU sizes that fit the second-level cache, a larger one and none; on a GPU sizes that fit none.
std::vector<Result> copy(const Context& context, const Options& options) {
  const bool gpu = context.device() == DeviceKind::cuda;
  std::vector<Result> results;
  for (const double megabytes :
       gpu ? std::array{500.0, 2000.0, 8000.0} : std::array{2.0, 32.0, 192.0}) {
    const Timing time = medians_and_copies(context, options, {}, {megabytes * 1e6}).front();
    results.push_back({.name = "copy",
                       .parameters = {{"megabytes moved", std::to_string(int(megabytes))}},
                       .milliseconds = time.milliseconds,
                       .gigabytes_per_second = megabytes / time.milliseconds,
                       .runs = options.runs,
                       .how = time.how});
  }
  return results;
}

std::vector<Result> arithmetic(const Context& context, const Options& options) {
  require<ValueError>(context.device() == DeviceKind::cpu, "bench",
                      "arithmetic is measured on the CPU alone");
  const double exponentials = exponentials_per_second(context, options) / 1e9;
  const double multiply_adds = multiply_adds_per_second(context, options) / 1e9;
  // Milliseconds for 10^9 of them; an exponential counts as one operation, a multiply-add as two.
  return {{.name = "exponentials",
           .parameters = {},
           .milliseconds = 1e3 / exponentials,
           .gigaflops = exponentials,
           .runs = options.runs},
          {.name = "multiply-adds",
           .parameters = {},
           .milliseconds = 1e3 / multiply_adds,
           .gigaflops = 2 * multiply_adds,
           .runs = options.runs}};
}

}  // namespace bench

}  // namespace fprnn
