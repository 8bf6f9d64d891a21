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

#include <fprnn/autograd/solution.h>
#include <fprnn/models/modules.h>
#include <fprnn/ops/krylov_solve.h>
#include <fprnn/ops/sweep_mixer.h>

#include <functional>
#include <optional>
#include <span>

namespace fprnn {

// The mixers of the library; formulas above.
enum class MixerKind { householder, dplr, kronecker };
MixerKind mixer_named(std::string_view name);  // ValueError: none of mixer_kinds()
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

// A number that |I - Q| of a kind never exceeds, whatever p (ops/mixer_bounds.md); if it
// is at most 1, I - Q never lengthens a vector. None for norms that rest on an estimated eigenvalue
// (spectral, row_spectral).
std::optional<double> proven_bound(const MixerOptions& options);

// A weight-normalised map of p, named as in checkpoints.
struct MixerMap {
  std::string name;  // as in checkpoints
  int64_t rows;      // numbers of Q that it makes
  bool bias = false;
};

// Q at every token: unit vectors u (..., r, D) and alpha (..., r), the two Kronecker factors, or
// what a mixer of one's own makes.
using MixerFactors = Vars;

// One time step of a fixed-point layer, all of whose past is known:
//   y = N(offset + gain . ((I - Q) y))
// with N a LayerNorm over D, RMS or the identity, as in any_norm (ops/norm.h). Tokens do not meet.
struct StepEquation {
  MixerFactors q;              // of every token
  Var offset, gain;            // (rows, T, D)
  Var norm_weight, norm_bias;  // (D) or undefined
  real eps;
};

class Mixer : public Module {
 public:
  // The maps' rows, in this order, make the numbers that Q is computed from.
  Mixer(Module& parent, std::string name, const Init& init, const MixerOptions& options,
        const std::vector<MixerMap>& maps);
  const MixerOptions& options() const { return options_; }
  const std::vector<std::unique_ptr<WeightNormLinear>>& maps() const { return maps_; }
  int64_t outputs() const;  // how many numbers
  // (..., outputs) -> what Q is made of, with the same leading axes. Solvers cut out steps and
  // sequences.
  virtual MixerFactors factors(const Var& projected) const = 0;
  virtual Var apply(const MixerFactors& q, const Var& v) const = 0;  // Q v

  // The solution y of a step's equation for every token, to
  //   max |f(y) - y| <= tolerance (max |f(y)| + kResidualFloor)
  // counts (tokens), 0 before, become the iterations, max_iterations where those were not enough.
  // As krylov_solve, unless the mixer knows better.
  virtual Tensor solve_step(const StepEquation& at, real tolerance, int64_t max_iterations,
                            const IntTensor& counts) const;
  // v = w + J^T v at the solution y of a step's equation, for mixers that solve it at once; others
  // as krylov_solve.
  virtual bool has_adjoint() const { return false; }
  virtual Tensor adjoint_step(const StepEquation& at, const Tensor& y, const Tensor& w) const;

  // The mixer as the kernels of whole time steps know it; none: layers go op by op.
  virtual std::optional<SweepMixer> sweep() const { return std::nullopt; }

  Var forward(const Var& p, const Var& v);  // (..., P), (..., D) -> Q(p) v (..., D)

 protected:
  MixerOptions options_;

 private:
  std::vector<std::unique_ptr<WeightNormLinear>> maps_;
};

// The right-hand side at y (rows, T, D).
Var apply(const StepEquation& at, const Mixer& mixer, const Var& y);

// The projection that the mixer and the cell of a layer are computed from
// (models/fixed_point_map.h),
//   p_t = weight_x x_t + bias + weight_y y_{t-1}
struct Projection {
  Var weight_x, bias;  // (P, D), (P)
  Var weight_y;        // (P, D); undefined: nothing sees y
  Vars others;         // weights of the layer's own, each (rows, D)
};

// Puts one together from rows of parameters, all by one op (ops/linear.h).
class ProjectionRows {
 public:
  static constexpr int kZeros = -1;  // instead of a source

  // The mixer's rows come first. Its own argument is x alone, [x ; y] if it has twice as many
  // parameters as D, or x + y if it sees y and has not.
  ProjectionRows(const Mixer& mixer, const Var& like, int64_t D, bool sees_y);
  // Maps to take rows from, on the tape of `like`; kZeros for one that is not there.
  int source(const Linear& map) { return source({{}, on_tape_of(like_, map.weight)}, map.bias); }
  int source(const WeightNormLinear* map) {
    return map == nullptr ? kZeros : source(map->source(like_), map->bias);
  }
  // The next rows of p: of weight_x, with their bias if there is one, and as many of weight_y,
  // those of source y from `row` on.
  void add(const WeightBlock& x, int y = kZeros, int64_t row = 0) {
    add(x, WeightBlock{y, x.rows, row});
  }
  // A weight (rows, D) of its own, among the others.
  void add_other(const WeightBlock& rows) { others_.push_back({D_, {rows}}); }
  Projection made() const;

 private:
  int source(const WeightSource& weight, Parameter* bias);
  void add(const WeightBlock& x, const WeightBlock& y);

  const Var& like_;
  const int64_t D_;
  std::vector<WeightSource> sources_;
  std::vector<int> biases_;  // the source of each one's
  WeightLayout x_, bias_, y_;
  std::vector<WeightLayout> others_;
};

// A kind of mixer, written once: its name, what it has, its proven_bound and how it is made from
// options that make_mixer has checked.
struct MixerKindRow {
  MixerKind kind;
  std::string name;
  bool rank = false, norm = false;  // which of these options it has
  // proven_bound, and make_mixer once it has checked the options.
  std::optional<double> (*bound)(const MixerOptions& options);
  std::unique_ptr<Mixer> (*make)(Module& parent, std::string name, const Init& init,
                                 const MixerOptions& options);
};
std::span<const MixerKindRow> mixer_kinds();  // all that MixerKind names

// Makes a mixer as a part of `parent`, under the given name.
using MixerFactory = std::function<std::unique_ptr<Mixer>(
    Module& parent, std::string name, const Init& init, const MixerOptions& options)>;
// The mixer of options.kind. ValueError: channels that check_sizes refuses, no parameters, a rank
// above D, or a scale outside [0, 2].
std::unique_ptr<Mixer> make_mixer(Module& parent, std::string name, const Init& init,
                                  const MixerOptions& options);

}  // namespace fprnn
