// What the fixed-point layers share: y = f(y) over a sequence, of a mixer, a cell and a norm
// (models/fixed_point_map.h), solved in one of four ways (models/solvers/solver.h), with the gradients of the solution
// (autograd/fixed_point.h). A layer states its projections, its cell and what it makes of the solution.
#pragma once

#include <fprnn/autograd/fixed_point.h>
#include <fprnn/models/fixed_point_map.h>
#include <fprnn/models/layer.h>
#include <fprnn/models/solvers/automatic.h>

namespace fprnn {

// A cap on the iterations of a batch drawn from Gamma(shape, scale), rounded up: the paper trains
// with (4, 1). shape is a whole number. ValueError: below 1, or scale not positive.
int64_t draw_iteration_cap(int64_t shape, double scale, Rng& rng);

// A regulariser of training: with this probability a step forgets the scan's state (where there is
// one besides y), drawn anew for each token. What lasts must then be carried by y_{t-1}, which does
// not fade with time as a scan does, and so reaches beyond the length that was trained.
struct StateDropout {
  double rate = 0;
  Rng rng = {};
  Tensor mask = {};  // (B, T): 0 where a state is dropped, else 1; if defined it is not drawn
};
// ValueError: the rate is outside [0, 1].
void check(const StateDropout& dropout);
// Draws such a mask. ValueError: as above.
void draw_state_mask(const StateDropout& dropout, const Tensor& mask);

// What a layer carries from one chunk of a sequence to the next; as values, no gradient flows
// through them. Empty at the start of a sequence.
struct FixedPointState {
  std::vector<Tensor> convolutions;  // (B, W - 1, channels) each
  Tensor y;                          // (B, D): the last step's solution
  Tensor carry;                      // the cell's
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
  // Of the last forward, and of the exact gradient's solve in the last backward through it, empty otherwise. Reading
  // waits for the device. Steps that are repeated (core/graph.h) leave them as they are, but write into the same
  // tensors.
  const SolveReport& solve_report() const { return report_; }
  FixedPointReport report() const { return report_.read(); }
  SolveReport adjoint_solve_report() const { return adjoint_ ? *adjoint_ : SolveReport{}; }
  FixedPointReport adjoint_report() const { return adjoint_solve_report().read(); }
  const Tensor& solution() const { return solution_; }  // (B, T, D)
  const PatienceHistory& patience_history() const { return history_; }
  Solver used() const { return used_; }  // who solved: never automatic
  // How many sequences parallel had brought to another solution than the sequential one.
  int64_t strayed() const { return strayed_; }

  Var forward(const Var& u) final;
  Var forward(const Var& u, LayerState& state) final;  // the state below: convolutions, y, carry
  // One chunk; starts from `state` and replaces it. A chunk of one step is the O(1)-memory decoder.
  // UsageError: the state of another layer or batch. If it throws, the state is what it was. The layer
  // must outlive the tape.
  Var forward(const Var& u, FixedPointState& state);  // (B, T, d) -> (B, T, d)

 protected:
  FixedPointLayer(Module& parent, std::string name, const SolverOptions& solver)
      : Layer(parent, std::move(name)), solver(solver) {}

  virtual FixedPointMap map() const = 0;
  virtual Var evaluate(const Var& u, FixedPointState& state) = 0;  // forward
  // The convolutions of a state for B sequences.
  virtual std::vector<Shape> convolution_shapes(int64_t /*B*/) const { return {}; }
  // The mask of state_dropout, (B, T) for `like` (B, T, .); undefined without it.
  Var state_mask(const Var& like) const;
  // The solution (B, T, D); replaces state.y and state.carry.
  Var solve(const FixedPointInputs& inputs, FixedPointState& state);

 private:
  Solver used_ = Solver::sequential;
  int64_t strayed_ = 0;
  SolveReport report_;
  std::shared_ptr<SolveReport> adjoint_;
  Tensor solution_;
  PatienceHistory history_;
};

}  // namespace fprnn
