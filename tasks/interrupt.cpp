#include <fprnn/tasks/interrupt.h>

#include <csignal>
#include <unistd.h>

namespace fprnn {

namespace {

// A signal is the process's own, so its mark cannot be anything but global.
volatile std::sig_atomic_t asked = 0;

extern "C" void on_interrupt(int) {
  if (asked != 0) _exit(kInterruptedExit);
  asked = 1;
}

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A file that may not grow further is an error where it is written, not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() { return asked != 0; }

}  // namespace fprnn
