// Reverse-mode differentiation: an append-only list of what was computed, walked backwards.
//
// The accumulation rule: the cotangent of a variable is the sum of the contributions of its uses,
// added in the reverse order of recording. The first contribution is stored as it is. The second is
// added to it in place if nobody else holds that tensor (by the op itself if it can), and into a
// new tensor otherwise. So no tensor that an op still holds ever changes, and the order, hence
// every bit, is fixed.
//
// backward consumes the record. The tape is then empty and can record again. Its constants stay
// valid, but variables recorded before have lost their history: an op, vjp or backward that gets
// one throws a UsageError. Truncated backpropagation carries values over: tape.constant(h.value()).
#pragma once

#include <fprnn/autograd/var.h>

#include <deque>
#include <functional>
#include <string>
#include <unordered_map>

namespace fprnn {

// A leaf that outlives tapes: a trainable tensor, its name in checkpoints and its gradient. The
// optimiser writes new numbers into the tensor of `value`, so every Var and Tensor that shares it
// changes; a clone keeps the old numbers. Call backward before the optimiser's step.
struct Parameter {
  std::string name;
  Tensor value;
  Tensor gradient;     // the sum since it was reset; undefined until a backward reaches it
  bool decays = true;  // whether weight decay applies
};

// What a recorded op's gradient sees: the cotangents of its outputs, and where to put its inputs'.
// UsageError: an input or output that the op does not have.
class Backward {
 public:
  bool has(int output = 0) const;                // whether anything reached this output
  const Tensor& output(int output = 0);          // its cotangent; zeros if nothing did
  bool wants(int input) const;                   // whether anyone asked for this input's cotangent
  void accumulate(int input, Tensor cotangent);  // of the input's shape; only if wanted
  // The input's cotangent so far, if the op may add to it in place instead of giving more; else
  // undefined.
  Tensor given(int input) const;

 private:
  friend class Tape;
  struct Table;
  Backward(Table& table, const class TapeNode& node) : table_(table), node_(node) {}
  int input_at(int input) const;  // its place on the tape, -1 if no gradient flows through it
  int output_at(int output) const;
  Table& table_;
  const TapeNode& node_;
};

// One recorded op; the tape's own.
class TapeNode {
  friend class Tape;
  friend class Backward;
  std::vector<int> inputs;  // places on the tape, -1 for inputs that no gradient flows through
  int first_output;
  int outputs;
  std::function<void(Backward&)> gradient;
};

class Tape {
 public:
  explicit Tape(const Context& context) : Tape(context, true) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  const Context& context() const { return context_; }
  bool recording() const { return recording_; }  // false: of a NoGrad

  // A value without history.
  Var constant(Tensor value) { return Var(std::move(value), this); }
  Var variable(Tensor value);      // a leaf that vjp can be asked about
  Var leaf(Parameter& parameter);  // the parameter on this tape, the same Var each time

  // J^T seeds: the cotangents of `inputs` when those of `outputs` are `seeds`. Inputs that the
  // outputs do not depend on yield zeros, and so do outputs without a tape, which are constants.
  // Only the nodes between the two are walked. The tape is unchanged and can be used again.
  // ShapeError: seeds and outputs differ in number or shape. UsageError: variables of another tape,
  // or recorded before the last backward.
  std::vector<Tensor> vjp(const std::vector<Var>& outputs, const std::vector<Tensor>& seeds,
                          const std::vector<Var>& inputs) const;

  // Adds d loss / d parameter to the gradient of every parameter used. Consumes the record: the
  // tensors of a node are freed as soon as it has been walked, and the tape is empty afterwards. If
  // an op's gradient throws, the tape is empty too and the parameters' gradients are unchanged.
  // ShapeError: loss is not one element. UsageError: loss was recorded elsewhere, or before the
  // last backward.
  void backward(const Var& loss);

 protected:
  Tape(const Context& context, bool recording)
      : context_(context), recording_(recording), first_(next_first()) {}

 private:
  friend std::vector<Var> record_all(std::string_view op, const std::vector<Var>& inputs,
                                     std::vector<Tensor> outputs,
                                     std::function<void(Backward&)> gradient);
  std::vector<Var> append(std::string_view op, const std::vector<Var>& inputs,
                          std::vector<Tensor> outputs, std::function<void(Backward&)> gradient);

  int64_t next_first() const { return context_.next_recording() << 32; }
  // The place of a Var on this tape, -1 for a constant. UsageError: it is of another recording.
  int place_of(std::string_view op, const Var& x) const;
  Var var_at(Tensor value, int place) { return Var(std::move(value), this, first_ + place); }
  // Goes through the nodes backwards and computes the gradients of those that are wanted; then
  // visited(node).
  template <class Nodes, class Visited>
  static void walk(Nodes& nodes, Backward::Table& table, const Visited& visited);

  Context context_;
  bool recording_;
  // The number of the first variable; the others follow. No two recordings of a Context share one.
  int64_t first_;
  std::vector<Shape> shapes_;   // of every variable, by place
  std::deque<TapeNode> nodes_;  // in order of recording; they stay where they are when others come
  std::vector<std::pair<Parameter*, int>> leaves_;
  std::unordered_map<const Parameter*, int> leaf_index_;
};

// A tape that records nothing: for evaluation.
class NoGrad : public Tape {
 public:
  explicit NoGrad(const Context& context) : Tape(context, false) {}
};

// The last step of every op: puts the outputs on the tape of the inputs, with the closure that maps
// the outputs' cotangents to the inputs'. The closure must hold every tensor that it reads: one that
// keeps a contract, which is pointers, names those tensors in its capture, for [=] keeps only what
// the body names. Nothing is recorded where no input is differentiable. An undefined Var stands for an absent optional
// input.
// UsageError: inputs from two tapes or two Contexts, inputs recorded before their tape's last
// backward, or no output.
std::vector<Var> record_all(std::string_view op, const std::vector<Var>& inputs,
                            std::vector<Tensor> outputs, std::function<void(Backward&)> gradient);
Var record(std::string_view op, const std::vector<Var>& inputs, Tensor output,
           std::function<void(Backward&)> gradient);

}  // namespace fprnn
