// A cell: two leaky integrators of each channel, with time constants of their own, and a share that says
// how much each is heard:
//   i_t = d_t . i_{t-1} + (1 - d_t) . mixed_t,   j_t = e_t . j_{t-1} + (1 - e_t) . mixed_t
//   v_t = share_t . i_t + (1 - share_t) . j_t
// The carry is (i, j). share_t may depend on y_{t-1}.
#pragma once

#include <fprnn/models/cells/cell.h>

namespace extending {

// Signals: (d, e), (B, T, 2 D). Of p: D numbers, share before its sigmoid. No weights.
class MyCell : public fprnn::Cell {
 public:
  explicit MyCell(int64_t channels) : channels_(channels) {}
  fprnn::Shape carry_shape(int64_t B) const override { return {B, 2 * channels_}; }
  int64_t raw_size() const override { return channels_; }
  // (d, e) (B, T, 2 D), share (B, T, D).
  fprnn::Vars token(const fprnn::Var& p, const fprnn::Vars& signals,
                    const fprnn::Vars& weights) const override;
  Scanned scan(const fprnn::Var& mixed, const fprnn::Vars& token,
               const fprnn::Var& carry) const override;
  Opened open(const fprnn::Var& mixed, const fprnn::Vars& token,
              const fprnn::Var& carry) const override;
  fprnn::Var close(const Opened& step, const fprnn::Var& moved) const override;

 private:
  // share . i + (1 - share) . j
  fprnn::Var heard(const fprnn::Var& share, const fprnn::Var& both) const;
  int64_t channels_;
};

}  // namespace extending
