// The threads of a Context: the calling thread and its helpers, which OpenMP starts at the first
// use, numbers and binds to places (OMP_PROC_BIND). Between two loops the helpers wait here: they
// spin for some microseconds and then sleep. In OpenMP they would spin for milliseconds, which no
// library can change.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>
#include <thread>

namespace fprnn {

// How long a waiting thread spins before it sleeps, by the value of OMP_WAIT_POLICY: for ever if
// "active", not at all if "passive", else as long as a sleeping thread takes to wake.
std::chrono::nanoseconds spin_time(std::string_view wait_policy);

// Used by one thread at a time. A loop waits only for helpers that have begun to work on it, so the
// calling thread does all the work where there are none: in a child of fork(), or if the system
// grants none.
class ThreadPool {
 public:
  ThreadPool(int threads, std::chrono::nanoseconds spin);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // body(piece) for each piece of [0, count), in any order; within another body, on the calling
  // thread alone. body must not throw.
  template <class Body>
  void run(int64_t count, const Body& body) {
    if (threads_ == 1 || count <= 1 || working_) {
      for (int64_t piece = 0; piece < count; ++piece) body(piece);
      return;
    }
    run({[](const void* of, int64_t piece) { (*static_cast<const Body*>(of))(piece); }, &body},
        count);
  }

 private:
  struct Work {
    void (*call)(const void* body, int64_t piece) = nullptr;
    const void* body = nullptr;
  };
  // Consecutive pieces that one thread takes first, so that it finds their data in its cache again.
  // A thread that has finished its own share takes pieces from the others'.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  // One word holds whether there is work, how many helpers are at it, and the number of the loop,
  // which wraps.
  static constexpr uint32_t kStop = 1, kOpen = 2, kHelper = 4, kHelpers = 0x7ff * kHelper,
                            kLoop = kHelpers + kHelper;
  static bool same_loop(uint32_t a, uint32_t b) { return a / kLoop == b / kLoop; }

  void run(Work work, int64_t count);
  void take_part(int number);
  void help(int number);
  void start();
  template <class Ready>
  uint32_t await(std::atomic<uint32_t>& word, const Ready& ready) const;

  const int threads_;
  const std::chrono::nanoseconds spin_;
  bool working_ = false;
  Work work_;
  int shares_in_use_ = 0;
  std::unique_ptr<Share[]> shares_;
  alignas(64) std::atomic<uint32_t> state_{0};
  std::atomic<uint32_t> left_{0};  // the state in which the last helper left a loop that was closed
  std::atomic<uint32_t> ended_{0};
  std::thread host_;        // the first of the OpenMP region whose others are the helpers
  int64_t started_by_ = 0;  // the process; 0: not started
};

}  // namespace fprnn
