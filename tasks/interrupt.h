// Ctrl-C: the first one asks the program to come to an end, a second one ends it at once.
#pragma once

#include <stdexcept>

namespace fprnn {

// Where work was given up because of it.
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("interrupted") {}
};

constexpr int kInterruptedExit = 130;

void catch_interrupts();  // SIGINT and SIGTERM, from now on
bool interrupted();

}  // namespace fprnn
