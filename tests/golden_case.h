// One golden case while it runs, and the families of cases, a file each (golden.cpp).
#pragma once

#include <fprnn/core/vector.h>
#include <fprnn/models/module.h>
#include <fprnn/models/safetensors.h>
#include <fprnn/ops/layout.h>

#include <nlohmann/json.hpp>

#include <cmath>
#include <map>

namespace fprnn::golden {

using Json = nlohmann::json;

constexpr double kTolerance = kDouble ? 1e-9 : 1e-4;

// One file while it runs: its tensors, the tape, and the largest errors so far.
struct Case {
  SafetensorsFile file;
  Json spec;
  Context context;
  Tape tape{context};
  double output_error = 0, gradient_error = 0, tolerance = kTolerance;
  std::vector<std::pair<std::string, Var>> inputs =
      {};  // the gradient's name in the file, and of what

  Tensor read(const std::string& name) const { return file.tensor(context, name); }

  Var input(const std::string& name) {
    const Var var = tape.variable(read("in." + name));
    inputs.emplace_back("grad." + name, var);
    return var;
  }

  // |got - expected| / |expected| over all elements; a wrong shape or a NaN is infinitely wrong.
  double error(const Tensor& got, const std::string& name) const {
    const Tensor expected = read(name);
    if (got.elements() != expected.elements()) return INFINITY;
    const std::vector<real> x = got.to_vector(), y = expected.to_vector();
    double difference = 0, length = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      difference += std::pow(static_cast<double>(x[i]) - y[i], 2);
      length += std::pow(static_cast<double>(y[i]), 2);
    }
    const double relative = length > 0 ? std::sqrt(difference / length) : std::sqrt(difference);
    return std::isfinite(relative) ? relative : INFINITY;
  }
  void compare_output(const Tensor& got, const std::string& name) {
    output_error = std::max(output_error, error(got, name));
  }
  void compare_gradient(const Tensor& got, const std::string& name) {
    gradient_error = std::max(gradient_error, error(got, name));
  }

  // The output, then the gradients of sum(output . w), and perhaps a second one's, with respect to
  // every input and parameter.
  void check(const Var& output, const std::string& name = "out.y", const Var& second = {},
             const Tensor& second_seed = {}) {
    compare_output(output.value(), name);
    const Tensor seed = file.has("loss.weight") ? read("loss.weight") : full(context, {}, 1);
    std::vector<Var> wanted;
    for (const auto& [_, var] : inputs) wanted.push_back(var);
    std::vector<Var> outputs{output};
    std::vector<Tensor> seeds{seed};
    if (second_seed.defined()) {
      outputs.push_back(second);
      seeds.push_back(second_seed);
    }
    const auto gradients = tape.vjp(outputs, seeds, wanted);
    for (size_t i = 0; i < inputs.size(); ++i) compare_gradient(gradients[i], inputs[i].first);
  }

  // Every parameter of the module from the file, whose names are the module's own.
  void load(Module& module) {
    for (const auto& [path, parameter] : module.parameters()) {
      const Tensor value = read("param." + path);
      require<FormatError>(value.shape() == parameter->value.shape(), "golden",
                           "a parameter must have its module's shape", path, value.shape(),
                           parameter->value.shape());
      parameter->value = value;
      inputs.emplace_back("grad.param." + path, tape.leaf(*parameter));
    }
  }
};

// A layer's output and gradients: over all steps at once, then in chunks, with gradients through the
// state.
template <class State, class Layer>
void check_layer(Case& c, Layer& layer) {
  const Var x = c.input("x");
  c.check(layer.forward(x));
  for (const int64_t length : {1, 3, 64}) {
    std::vector<Var> parts;
    State state;
    for (int64_t t = 0; t < x.size(1); t += length)
      parts.push_back(layer.forward(slice(x, 1, t, std::min(x.size(1), t + length)), state));
    c.check(concat(parts, 1));
  }
}

inline real eps_of(const Json& spec) { return spec.value("eps", spec.value("norm_eps", 1e-5)); }

using Runners = std::map<std::string, void (*)(Case&)>;  // by kind
Runners act_runners();
Runners delta_runners();
Runners fp_mamba2_runners();
Runners mamba2_runners();
Runners pd_ssm_runners();
Runners recurrent_runners();
Runners transformer_runners();
Runners xlstm_runners();

}  // namespace fprnn::golden
