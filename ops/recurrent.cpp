#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/gate_weights.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/recurrent.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

FPRNN_KERNEL(void recurrent_forward(const RecurrentForward&, const SequenceBlock&))
FPRNN_KERNEL(void recurrent_backward(const RecurrentBackward&, const SequenceBlock&))

namespace {

// The inputs of both cells; c0 is undefined in a gru.
struct Inputs {
  std::string_view op;
  RecurrentCell cell;
  Var x, weight, bias, h0, c0;

  int64_t B() const { return x.size(0); }
  int64_t T() const { return x.size(1); }
  int64_t H() const { return weight.size(1); }
  std::vector<Var> all() const { return {x, weight, bias, h0, c0}; }
};

Inputs checked(const Inputs& in) {
  const int64_t G = gates_of(in.cell);
  const bool square = in.weight.shape().rank() == 2 && in.weight.size(1) >= 1 &&
                      in.weight.size(0) == G * in.weight.size(1);
  require(square, in.op, "weight must be (G H, H) with H >= 1; weight, G", in.weight.shape(), G);
  const int64_t H = in.H();
  require(in.x.shape().rank() == 3 && in.x.size(-1) == G * H, in.op, "x must be (B, T, G H)",
          in.x.shape(), in.weight.shape());
  require(fits(in.bias, Shape{G * H}), in.op, "bias must be (G H)", in.bias.shape(),
          in.weight.shape());
  require(fits(in.h0, Shape{in.B(), H}), in.op, "h0 must be (B, H)", in.h0.shape(), in.x.shape(),
          in.weight.shape());
  require(fits(in.c0, Shape{in.B(), H}), in.op, "c0 must be (B, H)", in.c0.shape(), in.x.shape(),
          in.weight.shape());
  require_together(in.op, in.x, in.weight, in.bias, in.h0, in.c0);
  return in;
}
Inputs inputs_of(std::string_view op, const LstmInputs& in) {
  return checked({op, RecurrentCell::lstm, in.x, in.weight, in.bias, in.h0, in.c0});
}
Inputs inputs_of(std::string_view op, const GruInputs& in) {
  return checked({op, RecurrentCell::gru, in.x, in.weight, in.bias, in.h0, {}});
}

// What the gradient reads: neither x nor the bias, whose memory may go.
struct Kept {
  RecurrentForward forward;  // the contract; x and bias in it may dangle
  Tensor weight, h0, c0, h, c, saved;
};

// The sweep backwards gives the cotangents of x and s; those of the weight are one product over all
// tokens.
void give_gradients(const Kept& kept, Backward& back) {
  const RecurrentForward& forward = kept.forward;
  const Context& context = kept.h.context();
  const bool gru = forward.cell == RecurrentCell::gru;
  const int64_t H = forward.H, GH = kept.weight.size(0), tokens = forward.B * forward.T;
  const Tensor dx(context, kept.h.shape().with(-1, GH)), ds = gru ? like(dx) : dx;
  const Tensor dh0 = wanted_like(back, 3, kept.h0), dc0 = wanted_like(back, 4, kept.c0);
  launch(context, RecurrentBackward{.forward = forward,
                                    .dh = back.output(0).data(),
                                    .dc = !gru && back.has(1) ? back.output(1).data() : nullptr,
                                    .dx = dx.data(),
                                    .ds = gru ? ds.data() : nullptr,
                                    .dh0 = data_or_null(dh0),
                                    .dc0 = data_or_null(dc0)});
  if (back.wants(1)) {
    const Var before = reshape(shift(kept.h, kept.h0), Shape{tokens, H});
    back.accumulate(1,
                    matmul(reshape(ds, Shape{tokens, GH}), before, {.transpose_a = true}).value());
  }
  if (back.wants(2)) back.accumulate(2, sum_to(ds, Shape{GH}).value());
  if (back.wants(0)) back.accumulate(0, dx);
  if (dh0.defined()) back.accumulate(3, dh0);
  if (dc0.defined()) back.accumulate(4, dc0);
}

// h, and c of an lstm.
std::vector<Var> swept(const Inputs& in) {
  const Context& context = in.x.context();
  const std::vector<Var> inputs = in.all();
  const Shape shape{in.B(), in.T(), in.H()};
  std::vector<Tensor> outputs{Tensor(context, shape)};
  if (in.cell == RecurrentCell::lstm) outputs.emplace_back(context, shape);
  Tensor saved;
  if (std::ranges::any_of(inputs, &Var::differentiable))
    saved = Tensor(context, shape.with(-1, kRecurrentSaved * in.H()));
  const RecurrentForward forward{.cell = in.cell,
                                 .x = in.x.data(),
                                 .weight = in.weight.data(),
                                 .bias = data_or_null(in.bias),
                                 .h0 = data_or_null(in.h0),
                                 .c0 = data_or_null(in.c0),
                                 .h = outputs.front().data(),
                                 .c = outputs.size() > 1 ? outputs[1].data() : nullptr,
                                 .saved = data_or_null(saved),
                                 .B = in.B(),
                                 .T = in.T(),
                                 .H = in.H()};
  launch(context, forward);
  const Kept kept{forward,         in.weight.value(), in.h0.value(), in.c0.value(),
                  outputs.front(), outputs.back(),    saved};
  return record_all(in.op, inputs, outputs, [kept](Backward& back) { give_gradients(kept, back); });
}

}  // namespace

LstmResult lstm(const LstmInputs& inputs) {
  const Inputs in = inputs_of("lstm", inputs);
  const std::vector<Var> outputs = swept(in);
  return {outputs[0], outputs[1]};
}

Var gru(const GruInputs& inputs) {
  const Inputs in = inputs_of("gru", inputs);
  return swept(in).front();
}

RecurrentStep recurrent_step(RecurrentCell cell, const Var& x, const Var& s,
                             const RecurrentStep& before) {
  const std::vector<int64_t> widths(gates_of(cell), before.h.size(-1));
  const std::vector<Var> a = split(x, -1, widths), b = split(s, -1, widths);
  if (cell == RecurrentCell::gru) {
    const Var r = sigmoid(add(a[0], b[0])), z = sigmoid(add(a[1], b[1])),
              n = tanh(add(a[2], mul(r, b[2])));
    return {add(mul(affine(z, -1, 1), n), mul(z, before.h)), {}};
  }
  const auto gate = [&](int i) { return add(a[i], b[i]); };
  const Var c = add(mul(sigmoid(gate(1)), before.c), mul(sigmoid(gate(0)), tanh(gate(2))));
  return {mul(sigmoid(gate(3)), tanh(c)), c};
}

namespace {

Var or_zeros(const Inputs& in, const Var& first) {
  return first.defined() ? first : Var(zeros(in.x.context(), Shape{in.B(), in.H()}));
}

// (B, H) of each step -> (B, T, H).
Var in_time(const Inputs& in, std::vector<Var> steps) {
  const Shape shape{in.B(), in.T(), in.H()};
  if (steps.empty()) return Tensor(in.x.context(), shape);
  for (Var& step : steps) step = reshape(step, shape.with(1, 1));
  return concat(steps, 1);
}

LstmResult by_parts(const Inputs& in) {
  RecurrentStep state{or_zeros(in, in.h0), or_zeros(in, in.c0)};
  std::vector<Var> h, c, all;
  if (in.T() > 0) all = split(in.x, 1, std::vector<int64_t>(in.T(), 1));
  for (const Var& x : all) {
    const Var now = reshape(x, Shape{in.B(), x.size(-1)});
    state = recurrent_step(in.cell, now, linear(state.h, in.weight, in.bias), state);
    h.push_back(state.h);
    c.push_back(state.c);
  }
  if (in.cell == RecurrentCell::gru) return {in_time(in, std::move(h)), {}};
  return {in_time(in, std::move(h)), in_time(in, std::move(c))};
}

}  // namespace

LstmResult lstm_by_parts(const LstmInputs& inputs) {
  return by_parts(inputs_of("lstm_by_parts", inputs));
}
Var gru_by_parts(const GruInputs& inputs) { return by_parts(inputs_of("gru_by_parts", inputs)).h; }

namespace {

GateWeights weights_of(const RecurrentForward& args) {
  return {args.weight, args.bias, 1, gates_of(args.cell), args.H};
}

}  // namespace

void run(Cpu cpu, const RecurrentForward& args) {
  const auto kernel = FPRNN_SELECT(cpu, recurrent_forward);
  for_blocks(cpu, weights_of(args), Sweep::forward, args.B, args.T, 2,
             [&](const SequenceBlock& block) { kernel(args, block); });
}

void run(Cpu cpu, const RecurrentBackward& args) {
  const RecurrentForward& in = args.forward;
  const auto kernel = FPRNN_SELECT(cpu, recurrent_backward);
  for_blocks(cpu, weights_of(in), Sweep::backward, in.B, in.T, 2 + gates_of(in.cell),
             [&](const SequenceBlock& block) { kernel(args, block); });
}

}  // namespace fprnn
