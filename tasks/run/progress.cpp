#include <fmt/format.h>
#include <fprnn/tasks/run/output.h>
#include <fprnn/tasks/run/progress.h>

#include <utility>

namespace fprnn {

namespace {

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02} min", whole / 60, whole % 60);
  return fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

}  // namespace

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
  std::string line = fmt::format("step {:>{}}/{}  loss {:.4f}  accuracy {:.3f}", m.step,
                                 std::to_string(steps_).size(), steps_, m.loss, m.accuracy);
  if (m.iterations_max > 0)
    line += fmt::format("  iterations {:.0f}  residual {:.0e}", m.iterations_mean, m.residual_max);
  if (m.unconverged > 0) line += fmt::format("  unconverged {}", m.unconverged);
  if (m.adjoint_unconverged > 0)
    line += fmt::format("  gradient unconverged {}", m.adjoint_unconverged);
  if (m.skipped > 0) line += fmt::format("  skipped {}", m.skipped);
  line += fmt::format("  {:.0f} tokens/s", m.tokens_per_second);
  if (done > 0 && !last) line += fmt::format("  {} left", duration(left));
  pending_ = live_;
  if (live_)
    print_live(line);
  else
    print(line + "\n");
}

void Progress::end() {
  if (std::exchange(pending_, false)) print("\n");
}

}  // namespace fprnn
