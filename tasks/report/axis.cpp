#include <fmt/format.h>
#include <fprnn/tasks/report/axis.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace fprnn {

namespace {

bool shown(double value, int base) {
  return std::abs(value) <= kLargestShown && (base == 0 || value >= 1 / kLargestShown);
}

double transformed(const Axis& axis, double value) {
  if (axis.base == 0) return value;
  return axis.base == 2 ? std::log2(value) : std::log10(value);
}
double inverse(const Axis& axis, double value) {
  return axis.base == 0 ? value : std::pow(axis.base, value);
}

// The smallest 1, 2 or 5 times a power of ten of which at most so many multiples lie between.
double round_step(double low, double high, int most_ticks) {
  double power = std::pow(10, std::floor(std::log10((high - low) / most_ticks)));
  for (;; power *= 10)
    for (const double factor : {1, 2, 5}) {
      const double step = factor * power;
      const double count = std::floor(high / step + 1e-9) - std::ceil(low / step - 1e-9) + 1;
      if (count <= most_ticks) return step;
    }
}

// Within a few decades powers alone would say little.
std::vector<double> ticks_within_decades(const Axis& axis) {
  std::vector<double> ticks;
  for (double power = std::floor(std::log10(axis.least)); std::pow(10, power) <= axis.most; ++power)
    for (const double factor : {1, 2, 5}) {
      const double tick = factor * std::pow(10, power);
      if (axis.at(tick) >= -1e-9 && axis.at(tick) <= 1 + 1e-9) ticks.push_back(tick);
    }
  return ticks;
}

}  // namespace

double Axis::at(double value) const {
  if (!shown(value, base)) return std::numeric_limits<double>::quiet_NaN();
  const double low = transformed(*this, least), high = transformed(*this, most);
  return (transformed(*this, value) - low) / (high - low);
}

std::vector<double> Axis::ticks(int most_ticks) const {
  if (base == 10 && most / least < 300) return ticks_within_decades(*this);
  const double low = transformed(*this, least), high = transformed(*this, most);
  const int count = std::max(most_ticks, 2);
  const double step = base == 0 ? round_step(low, high, count)
                                : std::max(1.0, std::ceil((high - low) / (count - 1) - 1e-9));
  std::vector<double> ticks;
  const double first = std::ceil(low / step - 1e-9), last = std::floor(high / step + 1e-9);
  for (double i = first; i <= last; ++i) {
    const double tick = inverse(*this, i == 0 ? 0 : i * step);
    if (shown(tick, base)) ticks.push_back(tick);
  }
  return ticks;
}

bool spans(std::span<const double> values, double ratio) {
  if (values.empty()) return false;
  const auto [least, most] = std::ranges::minmax(values);
  return least > 0 && most > ratio * least;
}

Axis axis_over(std::span<const double> values, int base) {
  Axis axis{.least = kLargestShown, .most = -kLargestShown, .base = base};
  for (const double value : values) {
    if (!shown(value, base)) continue;
    axis.least = std::min(axis.least, value);
    axis.most = std::max(axis.most, value);
  }
  if (axis.least > axis.most)
    return {.least = base == 0 ? 0.0 : 1.0, .most = base + 1.0, .base = base};
  // Numbers too close to be told apart are one.
  const double low = transformed(axis, axis.least), high = transformed(axis, axis.most);
  if (high - low > std::max(1e-9 * std::max(std::abs(low), std::abs(high)), 1 / kLargestShown))
    return axis;
  const double middle = low, half = std::max(std::abs(middle) / 2, 1.0);
  return {
      .least = inverse(axis, middle - half), .most = inverse(axis, middle + half), .base = base};
}

Axis padded(const Axis& axis, double fraction) {
  const double low = transformed(axis, axis.least), high = transformed(axis, axis.most);
  const double room = fraction * (high - low);
  return {
      .least = inverse(axis, low - room), .most = inverse(axis, high + room), .base = axis.base};
}

Axis whole_decades(const Axis& axis) {
  const double low = std::floor(std::log10(axis.least) + 1e-9);
  const double high = std::max(std::ceil(std::log10(axis.most) - 1e-9), low + 1);
  return {.least = std::pow(10, low), .most = std::pow(10, high), .base = 10};
}

namespace {

// "10⁻⁴", "2·10⁷".
std::string power_text(double value) {
  const auto exponent = static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9));
  const double factor = value / std::pow(10, exponent);
  std::string text = std::abs(factor - 1) < 1e-9 ? "10" : fmt::format("{:.3g}·10", factor);
  if (exponent < 0) text += "⁻";
  constexpr const char* kRaised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  for (const char digit : fmt::format("{}", std::abs(exponent))) text += kRaised[digit - '0'];
  return text;
}

}  // namespace

std::string tick_text(double value) {
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-3 || size >= 1e7)) return power_text(value);
  if (size < 1000 || size != std::round(size)) return fmt::format("{:.6g}", value);
  const std::string digits = fmt::format("{:.0f}", size);
  std::string text = value < 0 ? "-" : "";
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace fprnn
