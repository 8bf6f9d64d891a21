// A variable of the environment for as long as this lives.
#pragma once

#include <cstdlib>

namespace fprnn::tests {

struct Variable {
  const char* name;
  Variable(const char* name, const char* value) : name(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
};

}  // namespace fprnn::tests
