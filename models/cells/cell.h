// A cell: the recurrence inside a fixed-point layer. Its state, the carry, moves by an affine map
// each step, and what it reads from the state is affine in what it is given:
//   v_t = read(carry_{t-1}) + gain_t . mixed_t
//   carry_t = write(carry_{t-1}, mixed_t)
// read, gain and write depend on the token's parameters, hence on y_{t-1}, but not on y_t. This is
// all that a layer must know of a recurrence to be a fixed point over it
// (models/fixed_point_map.h).
#pragma once

#include <fprnn/autograd/solution.h>

namespace fprnn {

class FusedForms;

class Cell {
 public:
  virtual ~Cell() = default;

  // Of the carry of B sequences.
  virtual Shape carry_shape(int64_t B) const = 0;
  // A token's parameters are made of so many numbers of p (models/fixed_point_map.h), its last
  // ones.
  virtual int64_t raw_size() const = 0;
  // The parameters of all tokens: from those numbers p (B, T, raw_size()), undefined if there are
  // none, and the layer's signals (B, T, .) and weights. T may be any part of the steps. Only the
  // cell reads what it returns.
  virtual Vars token(const Var& p, const Vars& signals, const Vars& weights) const = 0;

  // What a scan returns.
  struct Scanned {
    Var v;      // (B, T, D)
    Var carry;  // out of the last step; without steps it is not used
  };
  // All steps from carry, undefined at the start of a sequence, with mixed (B, T, D).
  virtual Scanned scan(const Var& mixed, const Vars& token, const Var& carry) const = 0;

  // A step, or many, with what closes it.
  struct Opened {
    Var v, gain;  // (B, T, D)
    Var carry;    // out of the last step
    Vars saved;   // what close needs besides
  };
  // The same, and every step's gain: where mixed_t moves by m, v_t moves by gain_t . m.
  virtual Opened open(const Var& mixed, const Vars& token, const Var& carry) const = 0;
  // The carry of a single opened step after its mixed has moved by `moved` (B, 1, D).
  virtual Var close(const Opened& step, const Var& moved) const = 0;

  // Faster forms of a layer over this cell, where there are any.
  virtual const FusedForms* fused() const { return nullptr; }
};

}  // namespace fprnn
