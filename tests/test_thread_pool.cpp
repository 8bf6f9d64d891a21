// The threads of a Context: what they work on, and what they cost while they wait.
#include <doctest/doctest.h>
#include <fprnn/core/parallel.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <thread>
#include <vector>

#include "context.h"

using namespace fprnn;
using namespace fprnn::tests;
using namespace std::chrono_literals;

namespace {

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

int64_t threads_of_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

void work_a_little(const Context& context) {
  parallel_pieces(Cpu{context}, 8, [](int64_t) {
    for (const double end = processor_seconds() + 1e-5; processor_seconds() < end;) continue;
  });
}

}  // namespace

TEST_CASE("thread pool: each piece once, in many loops of many sizes") {
  for (const int threads : {1, 2, 3, 16}) {
    const Context context = host_context(threads);
    for (int64_t loop = 0; loop < 3000; ++loop) {
      const int64_t count = loop % 37;
      std::vector<int64_t> done(static_cast<size_t>(count));
      parallel_pieces(Cpu{context}, count,
                      [&](int64_t piece) { done[static_cast<size_t>(piece)] += loop + piece; });
      for (int64_t piece = 0; piece < count; ++piece)
        REQUIRE(done[static_cast<size_t>(piece)] == loop + piece);
    }
  }
}

TEST_CASE("thread pool: a loop within a piece runs on the piece's own thread") {
  const Context context = host_context(4);
  std::vector<int> elsewhere(64);
  parallel_pieces(Cpu{context}, 64, [&](int64_t outer) {
    const auto own = std::this_thread::get_id();
    parallel_pieces(Cpu{context}, 16, [&](int64_t) {
      elsewhere[static_cast<size_t>(outer)] += std::this_thread::get_id() != own;
    });
  });
  CHECK(elsewhere == std::vector<int>(64));
}

TEST_CASE("thread pool: helpers work too") {
  const Context context = host_context(2);
  std::atomic<int> arrived{0};
  // Each piece waits for the other: one thread alone would wait for ever.
  parallel_pieces(Cpu{context}, 2, [&](int64_t) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  CHECK(arrived == 2);
}

TEST_CASE("thread pool: threads that wait sleep") {
  CHECK(spin_time("passive") == 0ns);
  CHECK(spin_time(" PASSIVE ") == 0ns);
  CHECK(spin_time("Active") >= 1h);
  CHECK(spin_time("") <= 200us);
  CHECK(spin_time("other") == spin_time(""));
  if (spin_time(environment("OMP_WAIT_POLICY", "")) > 1s) return;  // as whoever runs this wants it
  const Context context = host_context(2);
  work_a_little(context);
  const auto spent = [&](std::chrono::milliseconds pause) {
    const double before = processor_seconds();
    for (int i = 0; i < 50; ++i) {
      work_a_little(context);
      std::this_thread::sleep_for(pause);
    }
    return processor_seconds() - before;
  };
  // Waiting as OpenMP does it takes 3 ms of each pause: .15 s. How long the work takes is the machine's affair.
  const double work = spent(0ms);
  CHECK(spent(5ms) < 2 * work + .05);
}

TEST_CASE(
    "thread pool: one thread starts no other, and threads end with their Context or serve the "
    "next") {
  const int64_t before = threads_of_process();
  const Context one = host_context(1);
  work_a_little(one);
  const Context unused = host_context(3);
  CHECK(threads_of_process() <= before);  // those of earlier tests may be ending
  int64_t after_first = 0;
  for (int i = 0; i < 20; ++i) {
    {
      const Context three = host_context(3);
      work_a_little(three);
    }
    if (i == 0) after_first = threads_of_process();
  }
  for (int i = 0; i < 500 && threads_of_process() > after_first; ++i)
    std::this_thread::sleep_for(10ms);
  CHECK(threads_of_process() <= after_first);
}

TEST_CASE("thread pool: a child of fork() goes on with one thread") {
  auto context = std::make_unique<Context>(host_context(4));
  work_a_little(*context);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::vector<int> done(100);
    for (int loop = 0; loop < 10; ++loop)
      parallel_pieces(Cpu{*context}, 100,
                      [&](int64_t piece) { ++done[static_cast<size_t>(piece)]; });
    context.reset();
    {  // one of its own
      const Context fresh = host_context(4);
      parallel_pieces(Cpu{fresh}, 100, [&](int64_t piece) { ++done[static_cast<size_t>(piece)]; });
    }
    _exit(done == std::vector<int>(100, 11) ? 0 : 1);
  }
  int status = -1;
  pid_t ended = 0;
  for (int i = 0; i < 3000 && (ended = waitpid(child, &status, WNOHANG)) == 0; ++i)
    std::this_thread::sleep_for(10ms);
  if (ended == 0) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
  CHECK(ended == child);
  CHECK(status == 0);
  work_a_little(*context);
}
