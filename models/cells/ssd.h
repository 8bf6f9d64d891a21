// The recurrence of Mamba-2 (ops/ssd_scan.h), whose heads have one decay a step, with directions
// that may see y_{t-1}. In every group of heads
//   b_t = nrm(p_b),  c_t = nrm(p_c)
// and in every head, with step_t = softplus(dt_t + dt_bias),
//   S_t = exp(step_t A) S_{t-1} + (step_t mixed_t) b_t^T
//   v_t = S_t c_t + skip . mixed_t
// so that gain_t = step_t (b_t . c_t) + skip.
#pragma once

#include <fprnn/models/cells/cell.h>
#include <fprnn/ops/ssd_scan.h>

namespace fprnn {

struct SsdOptions {
  int64_t heads, channels;  // H, and P of each head: D = H P
  int64_t groups = 1;       // G, divides H
  int64_t states;           // N, of each channel
  bool bc_norm = true;      // false: b and c are p's numbers as they are
  real eps = static_cast<real>(1e-5);
};

// p: G N numbers of b, G N of c. Signals: dt (B, T, H). Weights: A (H), skip (H) or (H, P), dt_bias
// (H).
class SsdCell final : public Cell {
 public:
  explicit SsdCell(const SsdOptions& options) : of_(options) {}
  const SsdOptions& options() const { return of_; }

  // A token's parameters, in this order.
  enum { kDt, kB, kC, kA, kSkip, kDtBias };
  // The scan, recorded from what a trace has of it.
  Scanned scan(const Var& mixed, const Vars& token, const Var& carry,
               const SsdScanTrace& trace) const;

  Shape carry_shape(int64_t B) const override { return {B, of_.heads, of_.channels, of_.states}; }
  int64_t raw_size() const override { return 2 * of_.groups * of_.states; }
  Vars token(const Var& p, const Vars& signals, const Vars& weights) const override;
  Scanned scan(const Var& mixed, const Vars& token, const Var& carry) const override {
    return scan(mixed, token, carry, {});
  }
  Opened open(const Var& mixed, const Vars& token, const Var& carry) const override;
  Var close(const Opened& step, const Var& moved) const override;
  const FusedForms* fused() const override;

 private:
  SsdOptions of_;
};

}  // namespace fprnn
