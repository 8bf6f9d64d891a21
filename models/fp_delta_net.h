// FP-DeltaNet: a fixed point over the gated delta rule (arXiv 2503.10799, section 4, over
// 2412.06464). [z ; x ; K ; Q ; beta ; a] = W_in u, [x ; K ; Q] perhaps convolved; then y = f(y)
// with
//   xt_t = Q(p_t)(x_t - y_t) + y_t,  p_t = [x_t ; y_{t-1}]
//   k_t = nrm(K_t + W_k y_{t-1}),  q_t = nrm(Q_t + W_q y_{t-1}), for each head
//   S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t xt_t^T,  v_t = S_t^T q_t / sqrt(d_k)
//   f_t = RMS(v_t . SiLU(z_t))
// and out_t = W_out(SiLU(z_t + W_z y_{t-1}) . y_t). beta = s sigmoid(beta), with s = 2 where
// eigenvalues may be negative, and g = -exp(A_log) softplus(a + dt_bias) do not see y.
#pragma once

#include <fprnn/models/cells/delta.h>
#include <fprnn/models/fp_block.h>

namespace fprnn {

// Of dependence b is for the keys, which write, and c for the queries, which read.
struct FpDeltaNetOptions : FpBlockOptions {
  int64_t heads = 4;                  // divides expand * d_model
  int64_t head_dim = 0;               // d_k; 0: d_model / heads
  bool forget_gate = true;            // whether S decays by g; false: g = 0
  bool negative_eigenvalues = false;  // of I - beta k k^T: in [-1, 1] instead of [0, 1]
};

class FpDeltaNet : public FpBlock {
 public:
  // ValueError: as FpBlock, and sizes that do not divide.
  FpDeltaNet(Module& parent, std::string name, const Init& init, const FpDeltaNetOptions& options);

 protected:
  const Cell& cell() const override { return cell_; }
  Vars signals(const Var& s) override;

 private:
  int64_t heads_;
  real most_;  // s
  DeltaCell cell_;
  Parameter *a_log_, *dt_bias_;  // null without the forget gate
};

struct ModelKind;
ModelKind fp_delta_net_kind();  // models/registry.h

}  // namespace fprnn
