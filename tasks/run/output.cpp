#include <fcntl.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/run/output.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace fprnn {

namespace {

// Also what others have printed is to arrive.
void write_out(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  const bool flushed = std::fflush(stdout) == 0;
  const int reason = errno;
  if (written && flushed && std::ferror(stdout) == 0) return;
  throw OutputError("output", "what is printed must reach its reader",
                    std::array{describe(std::strerror(reason))});
}

}  // namespace

void open_standard_streams() {
  std::signal(SIGPIPE, SIG_IGN);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF) ::open("/dev/null", O_RDWR);
}

void print(std::string_view lines) { write_out(printable_lines(lines)); }

bool has_live_line() {
  const char* terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && terminal != nullptr && *terminal != '\0' &&
         std::string_view(terminal) != "dumb";
}

void print_live(std::string_view line) { write_out("\r" + printable(line) + "\x1b[K"); }

void print_error(std::string_view line) noexcept {
  try {
    const std::string text = printable_line(line) + "\n";
    std::fwrite(text.data(), 1, text.size(), stderr);
  } catch (const std::exception&) {
    std::fputs("no memory is left\n", stderr);
  }
}

}  // namespace fprnn
