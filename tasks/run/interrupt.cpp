#include <fprnn/tasks/run/interrupt.h>

#include <csignal>
#include <unistd.h>

namespace fprnn {

namespace {

// A signal is the process's own, so its marks cannot be anything but global.
volatile std::sig_atomic_t asked = 0, held = 0;

// A terminal may say more than once that it goes: that alone is no second wish.
extern "C" void on_interrupt(int signal) {
  if (held != 0 && (asked == 0 || signal == SIGHUP)) {
    asked = 1;
    return;
  }
  say_interrupted();
  _exit(kInterruptedExit);
}

}  // namespace

void catch_interrupts() {
  struct sigaction action = {}, before = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  if (sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler != SIG_IGN)
    sigaction(SIGHUP, &action, nullptr);
  // A file that may not grow further is an error where it is written, not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
}

HeldInterrupts::HeldInterrupts() { held = 1; }
HeldInterrupts::~HeldInterrupts() { held = 0; }

bool interrupted() { return asked != 0; }

// A system call alone, as a handler of signals may make.
void say_interrupted() noexcept {
  constexpr char kWord[] = "interrupted\n";
  [[maybe_unused]] const ssize_t ignored = ::write(STDOUT_FILENO, kWord, sizeof kWord - 1);
}

}  // namespace fprnn
