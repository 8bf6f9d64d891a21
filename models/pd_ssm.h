// PD-SSM (arXiv 2509.22284): a complex state that each token permutes, or merges, and scales.
//   pi = softmax(S u),  P = one-hot columns (or rows) of sum_k pi_k A_dict[:, :, k]
//   D = m . exp(2 pi i a),  m = sigmoid(generator_m u),  a = sigmoid(generator_a u)
//   h_t = P (D . h_{t-1}) + (B_re + i B_im) u,  out = LN(readout [Re h ; Im h] + D_skip . u)
// A generator is Linear, GELU, Linear. ops/pd_scan.h is the scan, with its gradient straight through
// P. Parameters are named as in the authors' code, D_skip as D.
#pragma once

#include <fprnn/models/modules.h>
#include <fprnn/models/state_layer.h>
#include <fprnn/ops/pd_scan.h>

namespace fprnn {

struct PdSsmOptions {
  int64_t d_model = 64;
  int64_t d_state = 64;          // N
  int64_t dictionary_size = 16;  // K, matrices that P is chosen from
  int64_t hidden_multiple = 2;   // a generator's hidden width, in units of N
  OneHot one_hot = OneHot::column;
  bool starts_at_one = true;  // h_0 = e_1; false: 0
  real eps = kNormEps;
};

class PdSsm : public StateLayer<Var> {
 public:
  // ValueError: what check_sizes refuses.
  PdSsm(Module& parent, std::string name, const Init& init, const PdSsmOptions& options);
  using StateLayer::forward;
  // The same with gradients through the state h (B, 2 N), undefined at the start of a sequence.
  Var forward(const Var& u, Var& h) override;

 private:
  std::vector<Shape> state_shapes(int64_t B) const override;
  // u (B, T, d) -> (B, T, N).
  struct Generator : Module {
    Generator(Module& parent, std::string name, const Init& init, const PdSsmOptions& options);
    Var forward(const Var& u);
    Linear in, out;
  };

  PdSsmOptions options_;
  Generator magnitude_, phase_;
  Linear selection_;
  Parameter& dictionary_;  // (N, N, K)
  Parameter& b_re_;        // (N, d)
  Parameter& b_im_;
  Parameter& skip_;  // (d)
  Linear readout_;
  LayerNorm norm_;
};

struct ModelKind;
ModelKind pd_ssm_kind();  // models/registry.h

}  // namespace fprnn
