// A fixed point in the place of a scan, in a block like Mamba-2's, over any cell whose heads share
// what they read and write along (models/cells/cell.h):
//   [z ; x ; b ; c ; s] = W_in u,  perhaps [x ; b ; c] = SiLU(conv([x ; b ; c]))
//   mixed_t = Q(p_t) (x_t - y_t) + y_t,  p_t = [x_t ; y_{t-1}]
//   v = the cell's scan of mixed, with b_t + W_b y_{t-1}, c_t + W_c y_{t-1} and s_t
//   f(y)_t = RMS(SiLU(z_t) . v_t)
//   out_t = W_out(SiLU(z_t + W_z y_{t-1}) . y_t),  y = f(y)
// RMS is over all channels: it bounds y, and so every step's equation has a solution.
#pragma once

#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/modules.h>

namespace fprnn {

struct FpBlockOptions {
  int64_t d_model = 64;
  int64_t expand = 2;      // D = expand d_model
  int64_t conv_width = 0;  // 0: x, b and c are not convolved and stay linear; the authors use 4
  int64_t layers = 1;      // W_out starts divided by sqrt(layers)
  MixerKind mixer = MixerKind::householder;
  MixerFactory make_mixer = {};  // of a mixer of one's own, instead of that kind
  int64_t rank = 1;
  real scale = 2;  // of I - Q, in [0, 2] (models/mixer.h)
  KroneckerNorm kronecker_norm = KroneckerNorm::row;
  bool symmetric = false;            // p_t = x_t + y_{t-1}
  HiddenDependence dependence = {};  // of Q, b and c
  bool glu_in_loop = false;          // no gate after the fixed point: out_t = W_out y_t
  real eps = kNormEps;               // of RMS and of the cell's norms
  SolverOptions solver = {};
};

class FpBlock : public FixedPointLayer {
 public:
  bool has_states() const override { return false; }

 protected:
  // What the cell has.
  struct Of {
    std::string_view op;  // the layer's name in errors
    int64_t directions;   // numbers of b, and as many of c
    int64_t scalars;      // numbers of s
    std::string y_proj;   // the name of [W_b ; W_c]
  };
  // ValueError: what check_sizes, of expand d_model too, make_mixer and check(SolverOptions)
  // refuse, an eps that is not positive, and steps that see y.
  FpBlock(Module& parent, std::string name, const Init& init, const FpBlockOptions& options,
          const Of& of);

  virtual const Cell& cell() const = 0;  // the recurrence
  // The cell's, from s (B, T, scalars).
  virtual Vars signals(const Var& s) = 0;
  virtual Vars weights(const Var& /*like*/) { return {}; }  // on its tape

  FixedPointMap map() const final { return {*mixer_, cell(), options_.eps}; }
  Var output(const Var& u, FixedPointState& state, const Conditions& on) final;
  std::vector<Shape> convolution_shapes(int64_t B) const final;

 private:
  using FixedPointLayer::projection;
  // Its weight_x and bias are the rows before those of b; the gate's weight is the only other.
  Projection projection(const Var& like) override;

  FpBlockOptions options_;
  Of of_;
  int64_t inner_, convolved_;  // D, and D + 2 directions
  Linear in_proj_;
  std::unique_ptr<CausalConv> conv1d_;  // null without
  std::unique_ptr<Mixer> mixer_;
  std::unique_ptr<WeightNormLinear> bc_y_proj_;  // null where neither b nor c sees y
  std::unique_ptr<WeightNormLinear> z_y_proj_;   // null with glu_in_loop
  Parameter& norm_weight_;
  Linear out_proj_;
};

}  // namespace fprnn
