#include <fprnn/core/thread_pool.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <system_error>

namespace fprnn {

namespace {

using Clock = std::chrono::steady_clock;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

std::chrono::nanoseconds spin_time(std::string_view wait_policy) {
  std::string policy;
  for (const char c : wait_policy)
    if (!std::isspace(static_cast<unsigned char>(c)))
      policy += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (policy == "active") return std::chrono::hours(24);
  if (policy == "passive") return std::chrono::nanoseconds(0);
  return std::chrono::microseconds(50);
}

ThreadPool::ThreadPool(int threads, std::chrono::nanoseconds spin)
    : threads_(threads), spin_(spin) {}

ThreadPool::~ThreadPool() {
  if (!host_.joinable()) return;
  if (started_by_ != getpid()) {  // a child of fork() has no such thread, and keeps its handle
    static_cast<void>(new std::thread(std::move(host_)));
    return;
  }
  state_ |= kStop;
  state_.notify_all();
  ended_ = 1;
  ended_.notify_one();
  host_.join();
}

// The region lasts as long as the ThreadPool. Its first thread only waits for the end; OpenMP may
// give fewer others than were asked for.
void ThreadPool::start() {
  shares_ = std::make_unique<Share[]>(static_cast<size_t>(threads_));
  started_by_ = getpid();
  try {
    host_ = std::thread([this] {
#ifdef KMP_VERSION_MAJOR  // Clang's OpenMP keeps threads for a later region: asleep at once
      kmp_set_blocktime(0);
#endif
#pragma omp parallel num_threads(threads_)
      if (const int number = omp_get_thread_num(); number == 0)
        ended_.wait(0);
      else
        help(number);
    });
  } catch (const std::system_error&) {  // the system has no thread to give
  }
}

// Spins for a while, then sleeps, until ready(word).
template <class Ready>
uint32_t ThreadPool::await(std::atomic<uint32_t>& word, const Ready& ready) const {
  uint32_t value = word.load(std::memory_order_acquire);
  if (spin_.count() > 0)
    for (const auto end = Clock::now() + spin_; !ready(value) && Clock::now() < end;)
      for (int i = 0; i < 32 && !ready(value); ++i) {
        pause();
        value = word.load(std::memory_order_acquire);
      }
  while (!ready(value)) {
    word.wait(value);
    value = word.load(std::memory_order_acquire);
  }
  return value;
}

void ThreadPool::take_part(int number) {
  for (int i = 0; i < shares_in_use_; ++i) {
    Share& share = shares_[static_cast<size_t>((number + i) % shares_in_use_)];
    for (int64_t piece; (piece = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
      work_.call(work_.body, piece);
  }
}

void ThreadPool::help(int number) {
  uint32_t seen = 0;
  for (;;) {
    uint32_t state = await(state_, [&](uint32_t s) {
      return (s & kStop) != 0 || ((s & kOpen) != 0 && !same_loop(s, seen));
    });
    if ((state & kStop) != 0) return;
    if (!state_.compare_exchange_weak(state, state + kHelper, std::memory_order_acq_rel)) continue;
    seen = state;
    take_part(number);
    state = state_.fetch_sub(kHelper, std::memory_order_acq_rel) - kHelper;
    if ((state & (kOpen | kHelpers)) == 0) {
      left_.store(state, std::memory_order_release);
      left_.notify_one();
    }
  }
}

void ThreadPool::run(Work work, int64_t count) {
  if (started_by_ == 0) start();
  working_ = true;
  work_ = work;
  shares_in_use_ = static_cast<int>(std::min<int64_t>(threads_, count));
  for (int i = 0; i < shares_in_use_; ++i) {
    shares_[static_cast<size_t>(i)].next.store(i * count / shares_in_use_,
                                               std::memory_order_relaxed);
    shares_[static_cast<size_t>(i)].end = (i + 1) * count / shares_in_use_;
  }
  left_.store(kOpen, std::memory_order_relaxed);  // no state after a loop is closed
  state_ += kLoop + kOpen;
  state_.notify_all();
  take_part(0);
  // Nothing is left to begin. Who has not begun need not: the loop is closed, and whoever is within
  // is waited for.
  const uint32_t closed = state_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  if ((closed & kHelpers) != 0)
    await(left_, [&](uint32_t left) { return left == (closed & ~kHelpers); });
  working_ = false;
}

}  // namespace fprnn
