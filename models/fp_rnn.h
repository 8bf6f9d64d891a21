// The vector FP-RNN: a gated diagonal recurrence with a channel mixer in the loop (arXiv
// 2503.10799, equation 7),
//   [x ; z] = W_in u
//   b = SiLU(W_b x_b)
//   lambda = sigmoid(W_l x_lambda + b_l)
//   ht_t = Q([x_mixer_t ; h_{t-1}]) (b_t . x_t - h_t) + h_t
//   h'_t = lambda_t . h'_{t-1} + (1 - lambda_t) . ht_t
//   h = f(h) = h'
//   c_t = SiLU(W_c [x_t ; h_{t-1}])
//   out = W_out RMSNorm(SiLU(z_t) . c_t . h_t)
// With short convolutions x, x_mixer, x_b and x_lambda are four SiLU(conv(x)), else all are x, and
//   c_t = SiLU(W_c SiLU(conv([x ; h]))_t)
// Parameters are named as in the authors' code.
#pragma once

#include <fprnn/models/cells/gated.h>
#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/models/modules.h>

namespace fprnn {

struct FpRnnOptions {
  int64_t d_model = 64;
  int64_t expand = 2;
  int64_t conv_width = 0;  // 0: none; the authors use 4
  int64_t layers = 1;      // W_out starts divided by sqrt(layers)
  MixerKind mixer = MixerKind::householder;
  MixerFactory make_mixer = {};  // of a mixer of one's own, instead of that kind
  int64_t rank = 1;
  real scale = 2;  // of I - Q, in [0, 2] (models/mixer.h)
  KroneckerNorm kronecker_norm = KroneckerNorm::row_spectral;  // the authors divide twice
  bool hidden_dependence = true;                               // whether Q sees h_{t-1}
  bool symmetric = false;  // Q's argument is x_mixer_t + h_{t-1}
  real eps = static_cast<real>(1e-5);
  SolverOptions solver = {};
};

class FpRnn : public FixedPointLayer {
 public:
  // ValueError: what check_sizes, of expand d_model too, make_mixer and check(SolverOptions)
  // refuse.
  FpRnn(Module& parent, std::string name, const Init& init, const FpRnnOptions& options);
  bool has_states() const override { return false; }  // its scan's state is h itself

 protected:
  FixedPointMap map() const override { return {*mixer_, cell_, options_.eps}; }
  Var output(const Var& u, FixedPointState& state, const Conditions& on) override;
  std::vector<Shape> convolution_shapes(int64_t B) const override;

 private:
  using FixedPointLayer::projection;
  Projection projection(const Var& like) override;
  struct Convolutions {
    CausalConv x, b, c, mixer, lambda;
  };
  // SiLU(conv(x)), or x without convolutions; what is carried goes to `after`.
  Var convolved(const Var& x, CausalConv Convolutions::*which, const Tensor& before,
                std::vector<Tensor>& after);

  FpRnnOptions options_;
  int64_t inner_;
  Linear input_trans_;
  std::unique_ptr<Convolutions> convolutions_;
  Linear lambda_proj_;
  Linear b_proj_;
  Linear c_proj_;
  std::unique_ptr<Mixer> mixer_;
  GatedCell cell_;
  RmsNorm output_norm_;
  Linear output_trans_;
};

struct ModelKind;
ModelKind fp_rnn_kind();  // models/registry.h

}  // namespace fprnn
