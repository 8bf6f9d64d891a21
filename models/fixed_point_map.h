// What a fixed-point layer iterates: a map f of sequences, made of a channel mixer Q, a cell and a
// norm N (arXiv 2503.10799, equations 12 and 14),
//   p_t = projected_t + W y_{t-1}
//   mixed_t = Q(p_t) (x_t - y_t) + y_t
//   v_t = read(carry_{t-1}) + gain_t . mixed_t,   carry_t = write(carry_{t-1}, mixed_t)
//   f(y)_t = N(SiLU(z_t) . v_t)
// where the cell's parameters (models/cells/cell.h) may depend on p_t too. N is a LayerNorm, RMS or
// the identity, as in any_norm (ops/norm.h), and the gate z may be missing.
//
// At a step whose past is known all but y_t is known, and y_t = f(y)_t is the equation of
// models/mixer.h with
//   offset = SiLU(z_t) . (read(carry_{t-1}) + gain_t . Q x_t)
//   gain   = SiLU(z_t) . gain_t
#pragma once

#include <fprnn/models/cells/cell.h>
#include <fprnn/models/mixer.h>

namespace fprnn {

// All that f depends on besides y. Signals are (B, T, .), and steps and sequences may be cut out of
// them.
struct FixedPointInputs {
  Var x;              // (B, T, D)
  Var projected;      // (B, T, P): the mixer's numbers, then perhaps some unused, then the cell's
  Var gate = {};      // z, (B, T, D) or undefined
  Var weight_y = {};  // W, (P, D); undefined: nothing depends on y_{t-1}
  Var norm_weight = {};  // (D); undefined: N is the identity
  Var norm_bias = {};    // (D); undefined: N is no LayerNorm
  Vars signals = {};     // the cell's
  Vars weights = {};     // the cell's

  // One after the other in a fixed order, and back from that.
  Vars flat() const;
  FixedPointInputs with(const Vars& flat) const;
  FixedPointInputs values() const;                                    // without history
  FixedPointInputs part(int axis, int64_t begin, int64_t end) const;  // of the signals
};

// What came before the first step; undefined at the start of a sequence.
struct Past {
  Var y;                                        // (B, D)
  Var carry;                                    // the cell's
  Past rows(int64_t begin, int64_t end) const;  // of the sequences begin .. end - 1
};

struct FixedPointMap {
  const Mixer& mixer;
  const Cell& cell;
  real eps;  // of the norm, if there is one

  // f at one y.
  struct Applied {
    Var f;                 // (B, T, D)
    Var carry;             // out of the last step
    Tensor residual = {};  // (B, T), as in Evaluated
  };
  // f(y), y (B, T, D). ShapeError: shapes that do not fit.
  Applied apply(const Var& y, const Past& past, const FixedPointInputs& in) const;

  // A step whose past is known.
  struct Opened {
    StepEquation equation;
    Cell::Opened cell;
  };
  // The equation of a single step, (rows, 1, .).
  Opened open(const Past& past, const FixedPointInputs& in) const;
  // Those of every step of y (B, T, D), each with the past that y gives it.
  StepEquation equations_at(const Var& y, const Past& past, const FixedPointInputs& in) const;
  // The carry out of an opened step whose solution is y (rows, 1, D).
  Var close(const Opened& step, const Var& y) const;

  // The parts of f. p (B, T, P), where y_{t-1} is that of y (B, T, D); what it says; mixed.
  Var raw(const Var& y, const Past& past, const FixedPointInputs& in) const;
  struct Token {
    MixerFactors q;  // of the mixer
    Vars cell;
  };
  Token token(const Var& p, const FixedPointInputs& in) const;
  Var mixed(const MixerFactors& q, const Var& x, const Var& y) const;
  Var normed(const Var& v, const FixedPointInputs& in) const;

 private:
  StepEquation equation(const MixerFactors& q, Var offset, Var gain,
                        const FixedPointInputs& in) const;
};

}  // namespace fprnn
