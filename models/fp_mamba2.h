// FP-Mamba-2: Mamba-2's scan with a dense transition, as the fixed point of channel mixing and scan
// (arXiv 2503.10799, section 4, over 2405.21060). [z ; x ; B ; C ; dt] = W_in u, [x ; B ; C]
// perhaps convolved; then y = f(y) with
//   xt_t = Q(p_t)(x_t - y_t) + y_t,  p_t = [x_t ; y_{t-1}]
//   b_t = nrm(B_t + W_b y_{t-1}),  c_t = nrm(C_t + W_c y_{t-1}), for each group of heads
//   S_t = a_t S_{t-1} + (dt_t xt_t) b_t^T,  v_t = S_t c_t + D xt_t, for each head
//   f_t = RMS(v_t . SiLU(z_t))
// and out_t = W_out(SiLU(z_t + W_z y_{t-1}) . y_t). dt = softplus(dt + dt_bias) and
// a = exp(-dt exp(A_log)) do not see y.
#pragma once

#include <fprnn/models/cells/ssd.h>
#include <fprnn/models/fp_block.h>

namespace fprnn {

struct FpMamba2Options : FpBlockOptions {
  int64_t d_state = 16;
  int64_t headdim = 64;  // P; divides expand * d_model
  int64_t ngroups = 1;   // divides the number of heads
  bool bc_norm = true;
  bool channel_skip = false;  // D is one number a channel, not a head
};

class FpMamba2 : public FpBlock {
 public:
  // ValueError: as FpBlock, and sizes that do not divide.
  FpMamba2(Module& parent, std::string name, const Init& init, const FpMamba2Options& options);

 protected:
  const Cell& cell() const override { return cell_; }
  Vars signals(const Var& s) override { return {s}; }
  Vars weights(const Var& like) override;

 private:
  SsdOptions ssd_;
  SsdCell cell_;
  Parameter& dt_bias_;
  Parameter& a_log_;
  Parameter& skip_;
};

struct ModelKind;
ModelKind fp_mamba2_kind();  // models/registry.h

}  // namespace fprnn
