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

// A number that |I - Q| never exceeds, whatever p (ops/mixer_bounds.md); if it is at most 1, I - Q
// never lengthens a vector. None for norms that rest on an estimated eigenvalue (spectral,
// row_spectral).
std::optional<double> proven_bound(const MixerOptions& options);

// Q at every token: unit vectors u (..., r, D) and alpha (..., r), or the two Kronecker factors.
struct MixerFactors {
  Var first, second;
};

class Mixer : public Module {
 public:
  Mixer(Module& parent, std::string name, const MixerOptions& options)
      : Module(parent, std::move(name)), options_(options) {}
  const MixerOptions& options() const { return options_; }
  // How the kernels of a whole time step and the local solves see the mixer; they know the three
  // kinds. A mixer of another kind has none: layers then call `factors` and `apply` and solve each
  // step by iteration.
  virtual std::optional<SweepMixer> sweep() const { return std::nullopt; }

  // Both maps of p as one: p -> p weight^T + bias, (..., P) -> (..., outputs).
  Var weight(const Var& like);  // (outputs, P), on the tape of `like`
  Var bias(const Var& like);    // (outputs)
  virtual int64_t outputs() const = 0;
  // The two maps whose rows make `weight`, in this order; the first has no bias.
  virtual WeightNormLinear& above() = 0;
  virtual WeightNormLinear& below() = 0;
  virtual MixerFactors factors(const Var& projected) const = 0;
  virtual Var apply(const MixerFactors& q, const Var& v) const = 0;  // Q v

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
