#include <fprnn/core/vector.h>
#include <fprnn/models/linear.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/reduce.h>

#include <cmath>

namespace fprnn {

namespace {

Tensor initial_weight(const Init& init, int64_t inputs, int64_t outputs, double shrink) {
  require<ValueError>(inputs >= 1 && outputs >= 1 && shrink > 0, "linear",
                      "sizes must be at least 1 and shrink positive", inputs, outputs, shrink);
  return init.uniform({outputs, inputs}, 1 / std::sqrt(static_cast<double>(inputs)) / shrink);
}

// |row| of each row, (rows, 1).
Tensor row_lengths(const Tensor& x) {
  std::vector<real> lengths = sum(square(x), 1).value().to_vector();
  for (real& length : lengths) length = std::sqrt(length);
  return Tensor(x.context(), Shape{x.size(0), 1}, lengths);
}

}  // namespace

Linear::Linear(Module& parent, std::string name, const Init& init, int64_t inputs, int64_t outputs,
               const LinearOptions& options)
    : Module(parent, std::move(name)),
      weight(add_parameter("weight", initial_weight(init, inputs, outputs, options.shrink))),
      bias(options.bias ? &add_parameter("bias", zeros(init.context, Shape{outputs}), Decay::no)
                        : nullptr) {}

Var Linear::forward(const Var& x) {
  return linear(x, beside(x, weight), bias != nullptr ? beside(x, *bias) : Var());
}

WeightNormLinear::WeightNormLinear(Module& parent, std::string name, const Init& init,
                                   int64_t inputs, int64_t outputs, const LinearOptions& options)
    : Module(parent, std::move(name)),
      direction(add_parameter("parametrizations.weight.original1",
                              initial_weight(init, inputs, outputs, options.shrink))),
      magnitude(add_parameter("parametrizations.weight.original0", row_lengths(direction.value))),
      bias(options.bias ? &add_parameter("bias", zeros(init.context, Shape{outputs}), Decay::no)
                        : nullptr) {}

Var WeightNormLinear::forward(const Var& x) {
  return weight_norm_linear(x, beside(x, magnitude), beside(x, direction),
                            bias != nullptr ? beside(x, *bias) : Var());
}

WeightSource WeightNormLinear::source(const Var& like) {
  return {beside(like, magnitude), beside(like, direction)};
}

Var WeightNormLinear::weight(const Var& like) {
  const auto [magnitude, direction] = source(like);
  return weight_norm(magnitude, direction);
}

}  // namespace fprnn
