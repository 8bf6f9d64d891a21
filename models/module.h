// A tree of named parameters. A module registers each parameter and each child once, in its
// constructor; the path of names, "layers.0.mixer.in_proj.weight", is what checkpoints and golden
// cases use.
//
// forward functions take Vars and find the tape in them: on a recording tape the parameters become
// its leaves, on a NoGrad tape or plain tensors they are plain values.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/rng.h>

#include <initializer_list>
#include <memory>

namespace fprnn {

// A parameter of a tree, and its path from the root.
struct NamedParameter {
  std::string path;
  Parameter* parameter;
};

class Module {
 public:
  Module() = default;
  Module(Module& parent, std::string name);
  virtual ~Module();               // leaves its parent; also when a derived constructor throws
  Module(const Module&) = delete;  // parents and optimisers hold addresses
  Module& operator=(const Module&) = delete;

  // This module's parameters and its children's, in order of registration.
  std::vector<NamedParameter> parameters();
  // The one of that path. ValueError: there is none.
  Parameter& parameter(std::string_view path);
  int64_t parameter_count();

 protected:
  // The value is the initial one. Biases, norms, A_log and the like do not decay.
  enum class Decay { yes, no };
  Parameter& add_parameter(std::string name, Tensor value, Decay decay = Decay::yes);

 private:
  void collect(const std::string& prefix, std::vector<NamedParameter>& into);

  Module* parent_ = nullptr;
  std::vector<std::unique_ptr<Parameter>> own_;
  std::vector<std::pair<std::string, Module*>> children_;
};

// The sizes that a model is made of are 1 to 2^20, so that products of three fit 63 bits.
inline constexpr int64_t kMaxSize = int64_t{1} << 20;
// ValueError: one of the model's sizes is outside.
void check_sizes(std::string_view model, std::initializer_list<int64_t> sizes);

// What constructors draw initial values from.
struct Init {
  Context context;
  Rng& rng;

  // U(-bound, bound).
  Tensor uniform(const Shape& shape, double bound) const {
    return fprnn::uniform(context, shape, static_cast<real>(-bound), static_cast<real>(bound), rng);
  }
};

// The parameter where x is: on x's tape if it has one.
inline Var on_tape_of(const Var& x, Parameter& parameter) {
  return x.tape() != nullptr ? x.tape()->leaf(parameter) : Var(parameter.value);
}

}  // namespace fprnn
