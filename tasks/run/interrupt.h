// Ctrl-C, SIGTERM and a terminal that goes (SIGHUP). Each ends the program at once where that loses
// nothing. Between a training step and its checkpoint the first one only asks for the end, and a
// second Ctrl-C or SIGTERM ends the program at once.
#pragma once

#include <stdexcept>

namespace fprnn {

// Where work was given up because of it.
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("interrupted") {}
};

// The exit code of a program that was interrupted.
constexpr int kInterruptedExit = 130;

void catch_interrupts();  // from now on; SIGHUP unless it is ignored, as nohup has it

// While one lives, an interrupt waits until it is asked for.
class HeldInterrupts {
 public:
  HeldInterrupts();
  ~HeldInterrupts();
  HeldInterrupts(const HeldInterrupts&) = delete;
  HeldInterrupts& operator=(const HeldInterrupts&) = delete;
};
bool interrupted();  // one came while it was held

void say_interrupted() noexcept;  // on standard output, if that can be written

}  // namespace fprnn
