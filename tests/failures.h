// Ways in which a system refuses to write, for one scope.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

namespace fprnn::tests {

// No file may grow beyond `bytes`: writing more fails, at that byte, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

// What may write anywhere becomes a user who may not.
class Unprivileged {
 public:
  Unprivileged() : changed_(geteuid() == 0 && seteuid(65534) == 0) {}
  ~Unprivileged() {
    if (changed_ && seteuid(0) != 0) _exit(3);
  }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;

 private:
  bool changed_;
};

}  // namespace fprnn::tests
