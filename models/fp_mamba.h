// FP-Mamba: Mamba's scan with a dense transition, as the fixed point of channel mixing and scan
// (arXiv 2503.10799, section 4). [x ; z] = W_in u, x perhaps convolved; [delta ; B ; C] = W_x x;
// then y = f(y) with
//   xt_t = Q(p_t)(x_t - y_t) + y_t,  p_t = [x_t ; y_{t-1}]              (eq. 14)
//   b_t = nrm(B_t + W_b y_{t-1}),  c_t = nrm(C_t + W_c y_{t-1})
//   H_t = exp(step A) . H_{t-1} + (step . xt_t) b_t^T,  v_t = H_t c_t + D . xt_t   (eq. 12)
//   f_t = LayerNorm(v_t)
// and out_t = W_out(SiLU(z_t + W_z y_{t-1}) . y_t). Parameters are named as in the authors' code.
#pragma once

#include <fprnn/models/cells/selective.h>
#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/models/modules.h>

namespace fprnn {

// Which of Q, b, c and the step sizes (through lambda = exp(step A)) see y_{t-1}.
struct HiddenDependence {
  bool q = true, b = true, c = true, lambda = false;  // which see it
};
// "none" or a list such as "q,b,c,lambda". ValueError: another name.
HiddenDependence hidden_dependence_named(std::string_view names);

// The mixer that a layer's options name, of D channels.
template <class Options>
MixerOptions mixer_options(const Options& options, int64_t D) {
  const bool concatenated = options.dependence.q && !options.symmetric;
  return {.kind = options.mixer,
          .channels = D,
          .parameters = concatenated ? 2 * D : D,
          .rank = options.rank,
          .scale = options.scale,
          .norm = options.kronecker_norm,
          .eps = options.eps};
}

struct FpMambaOptions {
  int64_t d_model = 64;
  int64_t d_state = 16;
  int64_t expand = 2;
  int64_t dt_rank = 0;     // 0: d_model / 16, rounded up
  int64_t conv_width = 0;  // 0: x is not convolved and stays linear; the authors use 4
  int64_t layers = 1;      // W_out starts divided by sqrt(layers)
  MixerKind mixer = MixerKind::householder;
  MixerFactory make_mixer = {};  // of a mixer of one's own, instead of that kind
  int64_t rank = 1;
  real scale = 2;  // of I - Q, in [0, 2] (models/mixer.h)
  KroneckerNorm kronecker_norm = KroneckerNorm::row;
  bool symmetric = false;  // p_t = x_t + y_{t-1}
  HiddenDependence dependence = {};
  bool bc_norm = true;
  bool additive_input = true;  // false: xt_t = (I - Q) y_t, and x chooses transitions alone
  // What a step outside of training keeps of H_{t-1}: after training with state dropout, the mean of
  // what that leaves (models/layer.h).
  double state_keep = 1;
  bool glu_in_loop = false;  // v_t is gated by SiLU(z_t) inside the loop, and out_t = W_out y_t
  real eps = static_cast<real>(1e-5);
  SolverOptions solver = {};
};

class FpMamba : public FixedPointLayer {
 public:
  // ValueError: what check_sizes, of expand d_model too, make_mixer and check(SolverOptions)
  // refuse; state_keep outside [0, 1].
  FpMamba(Module& parent, std::string name, const Init& init, const FpMambaOptions& options);

 protected:
  FixedPointMap map() const override { return {*mixer_, cell_, options_.eps}; }
  Var output(const Var& u, FixedPointState& state, const Conditions& on) override;
  std::vector<Shape> convolution_shapes(int64_t B) const override;

 private:
  using FixedPointLayer::projection;
  // Among its others: delta's rows of x_proj unless lambda sees y, and the gate's of y unless it is
  // in the loop.
  Projection projection(const Var& like) override;
  FixedPointInputs inputs_of(const Var& x, const Var& z, const Projection& of,
                             const Conditions& on);

  FpMambaOptions options_;
  int64_t inner_;
  Linear in_proj_;
  std::unique_ptr<CausalConv> conv1d_;  // null without
  Linear x_proj_;
  Linear dt_proj_;
  std::unique_ptr<Mixer> mixer_;
  SelectiveCell cell_;
  std::unique_ptr<WeightNormLinear> bc_y_proj_;  // null where neither b nor c sees y
  std::unique_ptr<WeightNormLinear> dt_y_proj_;  // null where lambda does not
  std::unique_ptr<WeightNormLinear> z_y_proj_;   // null with glu_in_loop
  Parameter& a_log_;
  Parameter& skip_;
  LayerNorm out_norm_;  // inside the loop
  Linear out_proj_;
};

struct ModelKind;
ModelKind fp_mamba_kind();  // models/registry.h

}  // namespace fprnn
