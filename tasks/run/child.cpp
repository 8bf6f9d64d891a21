#include <fcntl.h>
#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <fprnn/tasks/run/child.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace fprnn {

namespace {

constexpr const char* kProgram = "/proc/self/exe";

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> each;
  for (std::string& text : texts) each.push_back(text.data());
  each.push_back(nullptr);
  return each;
}

// Between fork and exec, where other threads of the parent may hold any lock: system calls alone.
[[noreturn]] void become(pid_t parent, int nothing, int log, char** arguments, char** environment) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const bool placed = ::dup2(nothing, STDIN_FILENO) >= 0 && ::dup2(log, STDOUT_FILENO) >= 0 &&
                      ::dup2(log, STDERR_FILENO) >= 0;
  if (placed && ::getppid() == parent) ::execve(kProgram, arguments, environment);
  ::_exit(127);
}

int exit_code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Child::Child(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
             const std::string& log) {
  const auto check = [&](bool done, const char* rule) {
    const int reason = errno;
    require<FileError>(done, "child", rule, log, std::strerror(reason));
  };
  std::vector<std::string> words = {kProgram}, variables = environment;
  words.insert(words.end(), arguments.begin(), arguments.end());
  const std::vector<char*> argv = pointers(words), envp = pointers(variables);
  const Descriptor nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Descriptor out(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  check(nothing.number() >= 0 && out.number() >= 0, "its log must be writable");
  const pid_t parent = ::getpid();
  process_ = ::fork();
  if (process_ == 0)
    become(parent, nothing.number(), out.number(), const_cast<char**>(argv.data()),
           const_cast<char**>(envp.data()));
  check(process_ > 0, "there must be room for another process");
}

Child::Child(Child&& other) noexcept : process_(std::exchange(other.process_, 0)) {}

Child::~Child() {
  if (process_ <= 0) return;
  interrupt();
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::optional<int> Child::ended() {
  int status = 0;
  if (process_ <= 0 || ::waitpid(process_, &status, WNOHANG) != process_) return std::nullopt;
  process_ = 0;
  return exit_code(status);
}

void Child::interrupt() const {
  if (process_ > 0) ::kill(process_, SIGINT);
}

}  // namespace fprnn
