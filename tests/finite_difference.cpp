#include "finite_difference.h"

#include <fmt/format.h>
#include <fprnn/core/rng.h>

#include <cmath>

#include "close.h"

namespace fprnn::tests {

namespace {

// Inputs of an op that have more elements together than this are tested along directions.
constexpr int64_t kEveryElement = 400;

// About 5e-4 of the range that the input was drawn from, a power of two so that x + h hardly
// rounds.
double step_for(const Input& input) {
  const double range = std::min(1.0, std::max(std::abs(input.low), std::abs(input.high)));
  return std::exp2(std::round(std::log2(range)) - 11);
}

// (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h with f = sum_i <seed_i, output_i>. Outputs are
// subtracted before they are summed: those that do not change then add no rounding.
double derivative(const OpCase& entry, Arrays& arrays, const Values& seeds, size_t input,
                  const std::vector<std::pair<size_t, double>>& direction) {
  const double h = step_for(entry.inputs[input]);
  std::vector<double>& x = arrays[input].data;
  const std::vector<double> centre = x;
  const auto outputs_at = [&](double distance) {
    for (const auto& [i, amount] : direction) x[i] = centre[i] + distance * amount;
    Arrays outputs = entry.reference(arrays);
    x = centre;
    return outputs;
  };
  const Arrays ahead = outputs_at(h), behind = outputs_at(-h);
  const Arrays far_ahead = outputs_at(2 * h), far_behind = outputs_at(-2 * h);
  double total = 0;
  for (size_t output = 0; output < seeds.size(); ++output)
    for (size_t i = 0; i < seeds[output].size(); ++i)
      total += seeds[output][i] * (8 * (ahead[output].data[i] - behind[output].data[i]) -
                                   (far_ahead[output].data[i] - far_behind[output].data[i]));
  return total / (12 * h);
}

GradientError every_element(const OpCase& entry, Arrays& arrays, const Values& seeds, size_t input,
                            const std::vector<real>& gradient) {
  std::vector<double> differences(gradient.size());
  for (size_t i = 0; i < gradient.size(); ++i)
    differences[i] = derivative(entry, arrays, seeds, input, {{i, 1.0}});
  return {relative_error(gradient, differences, entry.gradient_floor),
          first_difference(gradient, differences, entry.gradient_tolerance)};
}

// A direction of signs meets the gradient in a number about as large as its length, so the error of
// that number is put in relation to the length.
GradientError along_directions(const OpCase& entry, Arrays& arrays, const Values& seeds,
                               size_t input, const std::vector<real>& gradient) {
  GradientError worst{0, ""};
  for (uint64_t number = 0; number < 2; ++number) {
    const Rng rng{1, number};
    std::vector<std::pair<size_t, double>> direction;
    double along = 0;
    for (size_t i = 0; i < gradient.size(); ++i) {
      direction.emplace_back(i, rng.bits(i) % 2 == 0 ? 1.0 : -1.0);
      along += direction[i].second * gradient[i];
    }
    const double difference = derivative(entry, arrays, seeds, input, direction);
    const double scale = std::max(length(gradient), entry.gradient_floor);
    const double error = std::abs(along - difference) / (scale > 0 ? scale : 1);
    if (!(error <= worst.error))
      worst = {std::isfinite(error) ? error : kInfinity,
               fmt::format("along a direction: {} instead of {}", along, difference)};
  }
  return worst;
}

}  // namespace

GradientError gradient_error(const OpCase& entry, const Values& inputs, const Values& seeds,
                             size_t input, const std::vector<real>& gradient) {
  Arrays arrays = arrays_of(entry, inputs);
  int64_t elements = 0;
  for (const Array& array : arrays) elements += array.shape.elements();
  const bool small = elements <= kEveryElement;
  return (small ? every_element : along_directions)(entry, arrays, seeds, input, gradient);
}

}  // namespace fprnn::tests
