// The gated delta rule (ops/delta_rule.h) with keys and queries that may see y_{t-1}. What is mixed
// takes the place of the values. In every head
//   k_t = nrm(p_k),  q_t = nrm(p_q)
//   S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t mixed_t^T
//   v_t = S_t^T q_t / sqrt(d_k)
// All of v_t but mixed_t is the past's, so that
//   read = exp(g_t) S_{t-1}^T (I - beta_t k_t k_t^T) q_t / sqrt(d_k)
//   gain_t = beta_t (k_t . q_t) / sqrt(d_k)
// with one gain for all channels of a head.
#pragma once

#include <fprnn/models/cells/cell.h>

namespace fprnn {

struct DeltaOptions {
  int64_t heads;                       // H
  int64_t keys;                        // d_k, of each head
  int64_t channels;                    // d_v, of each head: D = H d_v
  real eps = static_cast<real>(1e-5);  // of nrm
};

// p: H d_k numbers of k, H d_k of q. Signals: beta (B, T, H), g (B, T, H) or undefined for 0. No
// weights.
class DeltaCell final : public Cell {
 public:
  explicit DeltaCell(const DeltaOptions& options) : of_(options) {}
  Shape carry_shape(int64_t B) const override { return {B, of_.heads, of_.keys, of_.channels}; }
  int64_t raw_size() const override { return 2 * of_.heads * of_.keys; }
  Vars token(const Var& p, const Vars& signals, const Vars& weights) const override;
  Scanned scan(const Var& mixed, const Vars& token, const Var& carry) const override;
  Opened open(const Var& mixed, const Vars& token, const Var& carry) const override;
  Var close(const Opened& step, const Var& moved) const override;
  const FusedForms* fused() const override;
  const DeltaOptions& options() const { return of_; }

  // A token's parameters, in this order.
  enum { kKey, kQuery, kBeta, kGate };

 private:
  real scale() const;

  DeltaOptions of_;
};

}  // namespace fprnn
