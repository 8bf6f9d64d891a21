#include <fcntl.h>
#include <fmt/format.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/table.h>
#include <fprnn/tasks/run/output.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fprnn {

namespace {

// Also what others have printed is to arrive.
void write_out(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  const bool flushed = std::fflush(stdout) == 0;
  const int reason = errno;
  if (written && flushed && std::ferror(stdout) == 0) return;
  throw OutputError("output", "what is printed must reach its reader",
                    std::array{describe(std::strerror(reason))});
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02} min", whole / 60, whole % 60);
  return fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

// "bits_per_byte" as bits per byte.
std::string text_of(const NamedValues& values) {
  std::string text;
  for (const auto& [name, value] : values)
    text += fmt::format("  {} {:.{}f}", name, value, value < 100 ? 3 : 0);
  std::ranges::replace(text, '_', ' ');
  return text;
}

// Whether standard output is a terminal where a line can be rewritten.
bool has_live_line() {
  const char* terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && terminal != nullptr && *terminal != '\0' &&
         std::string_view(terminal) != "dumb";
}

Glyphs terminal_glyphs() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string_view locale = value;
    const bool utf8 = locale.find("UTF-8") != locale.npos || locale.find("utf8") != locale.npos;
    return utf8 ? Glyphs::unicode : Glyphs::ascii;
  }
  return Glyphs::ascii;
}

}  // namespace

void open_standard_streams() {
  std::signal(SIGPIPE, SIG_IGN);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF) ::open("/dev/null", O_RDWR);
}

void print(std::string_view lines) { write_out(printable_lines(lines)); }

void print_bytes(std::string_view bytes) { write_out(bytes); }

void print_report(Runs runs) {
  print(fmt::format("\n{}\n{}", report_table(runs), report_chart(runs, terminal_glyphs())));
}

void print_report(RunGroups groups) {
  const std::vector<RunResult> shown = medians(groups);
  print(fmt::format("\n{}\n{}", report_table(groups), report_chart(shown, terminal_glyphs())));
}

void print_error(std::string_view line) noexcept {
  try {
    const std::string text = printable_line(line) + "\n";
    std::fwrite(text.data(), 1, text.size(), stderr);
  } catch (const std::exception&) {
    std::fputs("no memory is left\n", stderr);
  }
}

Progress::Progress(int64_t steps, int64_t done)
    : steps_(steps), done_(done), live_(has_live_line()) {}

void Progress::show(const StepMetrics& m) {
  if (before_ < 0) before_ = m.seconds;
  const bool last = m.step == steps_;
  if (m.step != done_ + 1 && !last && m.seconds < next_) return;
  next_ = m.seconds + (live_ ? 0.2 : 5);
  const int64_t done = m.step - done_ - 1;  // since the first that was shown
  const double left = done > 0 ? (m.seconds - before_) / static_cast<double>(done) *
                                     static_cast<double>(steps_ - m.step)
                               : 0;
  std::string line =
      fmt::format("step {:>{}}/{}  loss {:.4f}  accuracy {}", m.step, std::to_string(steps_).size(),
                  steps_, m.loss, share_text(m.accuracy, 3));
  if (m.iterations_max > 0)
    line += fmt::format("  iterations {:.0f}  residual {:.0e}", m.iterations_mean, m.residual_max);
  if (m.unconverged > 0) line += fmt::format("  unconverged {}", m.unconverged);
  if (m.adjoint_unconverged > 0)
    line += fmt::format("  gradient unconverged {}", m.adjoint_unconverged);
  if (m.skipped > 0) line += fmt::format("  skipped {}", m.skipped);
  line += m.in_units.empty() ? fmt::format("  {:.0f} tokens/s", m.tokens_per_second)
                             : text_of(m.in_units);
  if (done > 0 && !last) line += fmt::format("  {} left", duration(left));
  pending_ = live_;
  if (live_)
    write_out("\r" + printable(line) + "\x1b[K");
  else
    print(line + "\n");
}

void Progress::end() {
  if (std::exchange(pending_, false)) print("\n");
}

}  // namespace fprnn
