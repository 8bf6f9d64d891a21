// The selective recurrence of Mamba (ops/selective_scan.h) with directions that may see y_{t-1}
// (arXiv 2503.10799, equation 12):
//   b_t = nrm(p_b),  c_t = nrm(p_c)
//   H_t = exp(step_t A) . H_{t-1} + (step_t . mixed_t) b_t^T
//   v_t = H_t c_t + skip . mixed_t
// with step_t = softplus(delta_t + delta_bias), so that gain_t = step_t (b_t . c_t) + skip.
#pragma once

#include <fprnn/models/cells/cell.h>
#include <fprnn/ops/selective_scan.h>

namespace fprnn {

struct SelectiveOptions {
  int64_t channels;      // D
  int64_t states;        // N, of each channel
  int64_t step_numbers;  // R: delta is that many numbers of p times a weight; 0: it is a signal
  bool bc_norm = true;   // false: b and c are p's numbers as they are
  real eps = static_cast<real>(1e-5);
};

// p: N numbers of b, N of c, R of delta. Signals: delta (B, T, D), undefined if R is not 0, and the
// state mask (B, T) or undefined, 0 where a step forgets the state. Weights: A (D, N), skip (D),
// delta_bias (D), and delta's (D, R), undefined if R is 0.
class SelectiveCell final : public Cell {
 public:
  explicit SelectiveCell(const SelectiveOptions& options) : options_(options) {}
  const SelectiveOptions& options() const { return options_; }

  // A token's parameters, in this order.
  enum { kDelta, kB, kC, kMask, kA, kSkip, kDeltaBias };
  static Vars token_of(const Var& delta, const Var& b, const Var& c, const Vars& signals,
                       const Vars& weights) {
    return {delta, b, c, signals[1], weights[0], weights[1], weights[2]};
  }
  // The scan, recorded from what a trace has of it.
  Scanned scan(const Var& mixed, const Vars& token, const Var& carry,
               const SelectiveScanTrace& trace) const;
  // Delta alone, from the last numbers of p.
  Var delta_of(const Var& p, const Vars& signals, const Vars& weights) const;

  Shape carry_shape(int64_t B) const override { return {B, options_.channels, options_.states}; }
  int64_t raw_size() const override { return 2 * options_.states + options_.step_numbers; }
  Vars token(const Var& p, const Vars& signals, const Vars& weights) const override;
  Scanned scan(const Var& mixed, const Vars& token, const Var& carry) const override {
    return scan(mixed, token, carry, {});
  }
  Opened open(const Var& mixed, const Vars& token, const Var& carry) const override;
  Var close(const Opened& step, const Var& moved) const override;
  const FusedForms* fused() const override;

 private:
  SelectiveOptions options_;
};

}  // namespace fprnn
