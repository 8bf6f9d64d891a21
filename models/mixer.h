// Channel mixers with their projections: Q(p) v at every token, for a vector v and a vector p that
// Q is computed from (arXiv 2503.10799, section 4).
//
// householder, dplr (maps u_proj, alpha_proj):
//   u_i = nrm(SiLU((W_u p)_i)),  alpha = sigmoid(W_a p + b_a)
// kronecker (maps uv_project, diag):
//   k = SiLU(W_k p),  gates = sigmoid(W_g p + b_g)
//
// The maps are named as in the authors' code.
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
  real scale = 1;          // of I - Q (proven_bound); 2 allows reflections
  KroneckerNorm norm = KroneckerNorm::row;
  real eps = static_cast<real>(1e-5);
};

// Of the three kinds: a number that |I - Q| never exceeds, whatever p (ops/mixer_bounds.md); if it
// is at most 1, I - Q never lengthens a vector. None for norms that rest on an estimated eigenvalue
// (spectral, row_spectral).
std::optional<double> proven_bound(const MixerOptions& options);

class Mixer : public Module {
 public:
  Mixer(Module& parent, std::string name, const MixerOptions& options)
      : Module(parent, std::move(name)), options_(options) {}
  const MixerOptions& options() const { return options_; }
  // The projection of p, all maps in one: p -> p weight^T + bias, (..., P) -> (..., outputs).
  Var weight(const Var& like);  // (outputs, P), on the tape of `like`
  Var bias(const Var& like);    // (outputs)
  virtual int64_t outputs() const = 0;
  // The two maps whose rows make `weight`, in this order; the first has no bias, the second has
  // one.
  virtual WeightNormLinear& above() = 0;
  virtual WeightNormLinear& below() = 0;
  // (..., outputs) -> what Q is made of, with the same leading axes. Solvers cut out steps and
  // sequences.
  virtual MixerFactors factors(const Var& projected) const = 0;
  virtual Var apply(const MixerFactors& q, const Var& v) const = 0;  // Q v

  // The solution y of a step's equation for every token, from y = 0 on, to
  //   max |f(y) - y| <= tolerance (max |f(y)| + kResidualFloor)
  // counts (tokens), 0 before, become the iterations, max_iterations where those were not enough.
  // By iteration, unless the mixer knows better.
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

// Makes a mixer as a part of `parent`, under the given name.
using MixerFactory = std::function<std::unique_ptr<Mixer>(
    Module& parent, std::string name, const Init& init, const MixerOptions& options)>;
// The mixer of options.kind. ValueError: channels that check_sizes refuses, no parameters, a rank
// above D, or a scale outside [0, 2].
std::unique_ptr<Mixer> make_mixer(Module& parent, std::string name, const Init& init,
                                  const MixerOptions& options);

}  // namespace fprnn
