// This program again, as a process of its own beside this one, which ends with it.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace fprnn {

// Ctrl-C in a terminal does not reach it, interrupt() does. Should this process end without a word
// to it, it receives SIGTERM.
class Child {
 public:
  // arguments: without the program's name; environment: NAME=VALUE each. What it says is appended to
  // `log`; it has nothing to read. FileError: the log or the process cannot be made.
  Child(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
        const std::string& log);
  ~Child();  // interrupts it and waits, if it has not ended
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;

  // Its exit code, or 128 and the number of the signal that ended it; nothing while it runs.
  std::optional<int> ended();
  void interrupt() const;  // as Ctrl-C would

 private:
  int process_;  // 0: none that runs
};

}  // namespace fprnn
