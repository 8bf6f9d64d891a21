// What the fixed-point layers share: four ways to solve y = f(y) for a whole sequence, and the
// gradients of the solution (autograd/fixed_point.h).
//
// sequential: one step after the other. There all but y_t is known, and y_t solves a small
// equation, y = N(A + S . ((I - Q) y)) (ops/fp_mamba_solve.h). Also the decoder: it needs what a
// step carries to the next and nothing else.
//
// parallel: damped Picard iteration over all steps at once; about as many iterations as the memory
// is long.
//
// automatic, named auto: parallel where it settles sooner than a sequential solve would be done,
// else sequential (models/automatic_solver.h).
//
// patience: the authors' rule, for comparison.
//
// Which solution, where y = f(y) has several: the one that sequential finds, whose root of a step's
// equation depends on what came before that step and on nothing else. Picard iteration starts all
// steps at once, each from a past that still moves, and can settle at another. So parallel and
// automatic ask, once they have settled, for the root of every step's equation at the solution's
// own past, all steps at once. Where these are the solution, it is the sequential one, by induction
// over the steps; a sequence where they are not, by ten times the tolerance, is solved
// sequentially.
// What this cannot promise: where a step magnifies differences of the size of the tolerance, as
// Kronecker mixers at their initial weights do, two solutions within the tolerance part after some
// steps, also those of one solver with two tolerances. patience, and sequences that miss the
// tolerance, stay as they are.
#pragma once

#include <fprnn/autograd/fixed_point.h>
#include <fprnn/models/automatic_solver.h>
#include <fprnn/models/layer.h>
#include <fprnn/models/mixer.h>

#include <algorithm>

namespace fprnn {

enum class Solver { parallel, sequential, patience, automatic };
Solver solver_named(std::string_view name);  // ValueError: none of the four
std::string_view name_of(Solver solver);

struct SolverOptions {
  Solver solver = Solver::sequential;
  real tolerance = static_cast<real>(1e-4);
  int64_t max_iterations = 1000;  // parallel and patience: of the whole; sequential: of each step
  real damping = 1;               // parallel
  int64_t crossover = 0;          // automatic: as in automatic_solver.h; 0: that of the device
  PatienceOptions patience = {};  // its max_iterations gives way to the one above
  GradientRule gradient = {};  // exact: one sweep back in time if sequential solved, else iterated
  Unconverged unconverged = Unconverged::warn;
  bool operator==(const SolverOptions&) const = default;

  // Of a step's equation: the rest is for the rounding of the whole f in another order, a tenth, or half where that
  // is not enough.
  real of_a_step() const {
    return tolerance - std::max(tolerance / 10, std::min(tolerance / 2, kResidualRounding));
  }
};

// ValueError: a number that one of the solvers or gradients would refuse once it runs.
void check(const SolverOptions& options);

// A cap on the iterations of a batch drawn from Gamma(shape, scale), rounded up: the paper trains
// with (4, 1). shape is a whole number. ValueError: below 1, or scale not positive.
int64_t draw_iteration_cap(int64_t shape, double scale, Rng& rng);

// A regulariser of training: with this probability a step forgets the scan's state (where there is
// one besides y), drawn anew for each token. What lasts must then be carried by y_{t-1}, which does
// not fade with time as a scan does, and so reaches beyond the length that was trained.
struct StateDropout {
  double rate = 0;
  Rng rng = {};
  Tensor keep = {};  // (B, T): 0 where a state is dropped, else 1; if defined it is not drawn
};
// ValueError: the rate is outside [0, 1].
void check(const StateDropout& dropout);
// Draws such a mask. ValueError: as above.
void draw_kept_states(const StateDropout& dropout, const Tensor& keep);

// What a layer carries from one chunk of a sequence to the next; as values, no gradient flows
// through them. Empty at the start of a sequence.
struct FixedPointState {
  std::vector<Tensor> convolutions;  // (B, W - 1, channels) each
  Tensor y;                          // (B, D): the last step's solution
  Tensor scan;                       // what the scan carries
  bool wanted = true;                // whether anybody goes on from here
};

class FixedPointLayer : public Layer {
 public:
  SolverOptions solver;  // may be changed between calls, like the next two
  StateDropout state_dropout;
  SolverMemory memory;                              // of automatic; {} forgets
  virtual bool has_states() const { return true; }  // that could be dropped
  // What iterates over a whole sequence reads residuals back, and automatic may do so.
  bool recordable() const override;
  // Of the last forward. The report waits for the device, the record does not. Steps that are repeated
  // (core/graph.h) leave them as they are, but write into the same tensors.
  FixedPointReport report() const { return record_.read(); }
  const SolveRecord& record() const { return record_; }
  const Tensor& solution() const { return solution_; }   // (B, T, D)
  const PatienceTrace& trace() const { return trace_; }  // of `patience`
  Solver used() const { return used_; }                  // who solved: never automatic
  // How many sequences parallel had brought to another solution than the sequential one.
  int64_t strayed() const { return strayed_; }
  // Of the exact gradient's solve, in the last backward through the last forward; empty otherwise.
  SolveRecord adjoint_record() const { return adjoint_ ? *adjoint_ : SolveRecord{}; }
  FixedPointReport adjoint_report() const { return adjoint_record().read(); }

  Var forward(const Var& u) final;
  Var forward(const Var& u, LayerState& state) final;  // the state below: convolutions, y, scan
  // One chunk; starts from `state` and replaces it. A chunk of one step is the O(1)-memory decoder.
  // UsageError: the state of another layer or batch. If it throws, the state is what it was. The layer
  // must outlive the tape.
  Var forward(const Var& u, FixedPointState& state);  // (B, T, d) -> (B, T, d)

 protected:
  FixedPointLayer(Module& parent, std::string name, const SolverOptions& solver)
      : Layer(parent, std::move(name)), solver(solver) {}

  // What f needs besides y: signals (B, T, .), of which steps and sequences are cut out, and
  // weights. Some may be undefined.
  using Vars = std::vector<Var>;
  struct Applied {
    Var f;                 // (B, T, D)
    Var scan;              // carried out of the last step
    Tensor residual = {};  // (B, T), as in Judged
  };
  // f(y) from the first step's y_{t-1} (previous) and scan, either of which may be undefined.
  virtual Applied apply(const Var& y, const Var& previous, const Var& scan, const Vars& signals,
                        const Vars& weights) const = 0;

  // What N is applied to in f(y) is offset + gain . ((I - Q) y), and offset and gain do not depend on
  // y_t: the equation of a step whose past is known.
  struct LocalEquation {
    MixerFactors q;
    Var offset, gain;
    Var norm_weight, norm_bias;  // undefined: N is the identity
    Vars kept;                   // what advance needs besides
  };
  // That of one step of all rows, (rows, 1, .), for y undefined; otherwise of every step of y (B, T, D),
  // each with the past that y gives it.
  virtual LocalEquation local_equation(const Var& y, const Var& previous, const Var& scan,
                                       const Vars& signals, const Vars& weights) const = 0;
  // What is carried out of a single step once y is known.
  virtual Var advance(const Var& y, const LocalEquation& at, const Var& scan, const Vars& signals,
                      const Vars& weights) const = 0;
  // What a sweep makes from a state, whose scan it replaces.
  struct Swept {
    Tensor y;              // (B, T, D)
    IntTensor iterations;  // (B), from 0 on
    Tensor residual;       // (B), of the whole f at y
    bool recorded;         // whether f is recorded at y afterwards, which the sweep may prepare
    std::vector<Tensor>& kept;  // for what it leaves to its adjoint
  };
  // What a sweep back in time makes of a cotangent g of the solution y.
  struct SweptBack {
    Tensor y, v;               // (B, T, D); v is g, which becomes v
    IntTensor iterations;      // (B), from 0 on: the most of any step's own equation
    GradientRule rule;         // of those equations, where they are iterated
    FixedPointState before;    // the sequence
    std::vector<Tensor> kept;  // of the sweep
  };
  // Both sweeps on a device that has kernels for this layer; whether it has.
  virtual bool solve_on_gpu(const Vars& /*signals*/, const Vars& /*weights*/, const Swept& /*to*/,
                            FixedPointState& /*state*/) const {
    return false;
  }
  virtual bool adjoint_on_gpu(const Vars& /*signals*/, const Vars& /*weights*/,
                              const SweptBack& /*to*/) const {
    return false;
  }
  // Of a state for B sequences: the convolutions, then y and scan.
  virtual std::vector<Shape> state_shapes(int64_t B) const = 0;
  virtual const Mixer& mixer() const = 0;

  virtual Var evaluate(const Var& u, FixedPointState& state) = 0;  // forward
  // The mask of state_dropout, (B, T) for `like` (B, T, .); undefined without it.
  Var kept_states(const Var& like) const;
  // The solution (B, T, D) for B, T and D channels; replaces state.y and state.scan.
  Var solve(const Vars& signals, const Vars& weights, int64_t channels, FixedPointState& state);

 private:
  class Sweep;
  // Solves by steps into y (B, T, D), whatever it is, and carries the state on.
  using Sequential = std::function<Solution(const Tensor& y)>;
  // The solution by the solver that was asked for, without looking which of several it is.
  Solution solve_by_name(const Map& f, Tensor start, const Sequential& sequential);
  Solution solve_automatically(const Map& f, const Tensor& start, const Sequential& sequential);
  Solution solve_in_parallel(const Map& f, Tensor start, int64_t max_iterations) const;
  // The roots of all steps' equations, each with the past that y gives it.
  Tensor roots_at(const Tensor& y, const Vars& signals, const Vars& weights,
                  const FixedPointState& before) const;
  // A solution of picard, with those sequences brought back that settled at another than the sequential one.
  Solution brought_back(Solution found, const Vars& signals, const Vars& weights,
                        const FixedPointState& before, const Sequential& sequential);
  // recorded and kept: as in Swept.
  Solution solve_sequential(const Vars& signals, const Vars& weights, const Tensor& y,
                            bool recorded, std::vector<Tensor>& kept, FixedPointState& state) const;
  Adjoint sweep_back(const Vars& signals, const Vars& weights, const FixedPointState& before,
                     const Tensor& solution, const std::vector<Tensor>& kept) const;
  Solver used_ = Solver::sequential;
  int64_t strayed_ = 0;
  SolveRecord record_;
  std::shared_ptr<SolveRecord> adjoint_;
  Tensor solution_;
  PatienceTrace trace_;
};

}  // namespace fprnn
