// The gated diagonal recurrence of the vector FP-RNN (arXiv 2503.10799, equation 7), whose state is
// what it reads:
//   h_t = lambda_t . h_{t-1} + (1 - lambda_t) . mixed_t,   v_t = h_t
#pragma once

#include <fprnn/models/cells/cell.h>

namespace fprnn {

// Signals: lambda (B, T, D). No weights, and nothing of p.
class GatedCell final : public Cell {
 public:
  explicit GatedCell(int64_t channels) : channels_(channels) {}
  Shape carry_shape(int64_t B) const override { return {B, channels_}; }
  int64_t raw_size() const override { return 0; }
  Vars token(const Var& p, const Vars& signals, const Vars& weights) const override;
  Scanned scan(const Var& mixed, const Vars& token, const Var& carry) const override;
  Opened open(const Var& mixed, const Vars& token, const Var& carry) const override;
  Var close(const Opened& step, const Var& moved) const override;
  const FusedForms* fused() const override;

 private:
  int64_t channels_;
};

}  // namespace fprnn
