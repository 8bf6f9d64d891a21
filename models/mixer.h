// Channel mixers with their projections: Q(p) v for a parameter argument p and a vector v, a token at a
// time (arXiv 2503.10799, section 4). Parameters are named as in the authors' code.
//
// householder, dplr: u_i = nrm(SiLU((W_u p)_i)), alpha = sigmoid(W_a p + b_a); u_proj, alpha_proj.
//
// kronecker: k = SiLU(W_k p), gates = sigmoid(W_g p + b_g); uv_project, diag.
#pragma once

#include <fprnn/models/linear.h>
#include <fprnn/models/step_equation.h>
#include <fprnn/ops/sweep_mixer.h>

#include <functional>
#include <optional>

namespace fprnn {

enum class MixerKind { householder, dplr, kronecker };
MixerKind mixer_named(std::string_view name);  // ValueError: none of the three
std::string_view name_of(MixerKind kind);

struct MixerOptions {
  MixerKind kind = MixerKind::householder;
  int64_t channels = 0;    // D, of v
  int64_t parameters = 0;  // length of p
  int64_t rank = 1;        // of householder and dplr
  real scale = 1;          // 1 contracts, 2 allows reflections
  KroneckerNorm norm = KroneckerNorm::row;
  real eps = static_cast<real>(1e-5);
};

class Mixer : public Module {
 public:
  Mixer(Module& parent, std::string name, const MixerOptions& options)
      : Module(parent, std::move(name)), options_(options) {}
  const MixerOptions& options() const { return options_; }
  // The projection of p, all maps in one: p -> p weight^T + bias, (..., P) -> (..., outputs).
  Var weight(const Var& like);  // (outputs, P), on the tape of `like`
  Var bias(const Var& like);    // (outputs)
  virtual int64_t outputs() const = 0;
  // The maps, one below the other; the first has no bias.
  virtual WeightNormLinear& above() = 0;
  virtual WeightNormLinear& below() = 0;
  virtual MixerFactors factors(const Var& projected) const = 0;
  virtual Var apply(const MixerFactors& q, const Var& v) const = 0;  // Q v

  // The solution y of a step's equation for every token, from y = 0 on, to
  //   max |f(y) - y| <= tolerance (max |f(y)| + kResidualFloor)
  // counts (tokens) become the iterations, max_iterations where those were not enough. By iteration, unless
  // the mixer knows better.
  virtual Tensor solve_step(const StepEquation& at, real tolerance, int64_t max_iterations,
                            const IntTensor& counts) const;
  // v = w + J^T v at the solution y of a step's equation, for mixers that solve it at once.
  virtual bool has_adjoint() const { return false; }
  virtual Tensor adjoint_step(const StepEquation& at, const Tensor& y, const Tensor& w) const;

  // The mixer as the kernels of whole time steps know it; none: layers go op by op.
  virtual std::optional<SweepMixer> sweep() const { return std::nullopt; }

  Var forward(const Var& p, const Var& v);  // (..., P), (..., D) -> Q(p) v (..., D)

 protected:
  MixerOptions options_;
};

// Makes a mixer under the given parent and name.
using MixerFactory = std::function<std::unique_ptr<Mixer>(
    Module& parent, std::string name, const Init& init, const MixerOptions& options)>;
// That of options.kind. ValueError: channels that check_sizes refuses, no parameters, rank above D, or a scale outside [0, 2].
std::unique_ptr<Mixer> make_mixer(Module& parent, std::string name, const Init& init,
                                  const MixerOptions& options);

}  // namespace fprnn
