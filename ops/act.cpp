#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/act_block.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/gate_weights.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/reduce.h>

#include <limits>
#include <numeric>

namespace fprnn {

FPRNN_KERNEL(int64_t act_numbers(const ActForward&))
FPRNN_KERNEL(void act_forward(const ActForward&, const real* panels, ActBlock& block,
                              const ActRoom& room, real* scratch))
FPRNN_KERNEL(void act_backward(const ActBackward&, const real* panels, ActBlock& block,
                               const ActRoom& room, real* scratch))

namespace {

struct Sizes {
  int64_t B, T, G, H;
};

Sizes checked(std::string_view op, const ActInputs& in) {
  const int64_t G = gates_of(in.cell);
  require(in.weight.shape().rank() == 2 && in.weight.size(1) >= 1 &&
              in.weight.size(0) == G * in.weight.size(1),
          op, "weight must be (G H, H) with H >= 1; weight, G", in.weight.shape(), G);
  const int64_t H = in.weight.size(1);
  const auto check = [&](const Var& x, bool fit, std::string_view rule) {
    require(fit, op, rule, x.shape(), in.weight.shape());
  };
  check(in.x, in.x.shape().rank() == 3 && in.x.size(-1) == G * H, "x must be (B, T, G H)");
  const Shape states{in.x.size(0), H};
  check(in.flag, in.flag.shape() == Shape{G * H}, "flag must be (G H)");
  check(in.bias, fits(in.bias, Shape{G * H}), "bias must be (G H)");
  check(in.halt_weight, in.halt_weight.shape() == Shape{1, H}, "halt_weight must be (1, H)");
  check(in.halt_bias, in.halt_bias.shape() == Shape{1}, "halt_bias must be (1)");
  check(in.h0, fits(in.h0, states), "h0 must be (B, H)");
  check(in.c0, fits(in.c0, states), "c0 must be (B, H)");
  require<ValueError>(in.epsilon >= 0 && in.epsilon < 1, op, "epsilon must be in [0, 1)",
                      in.epsilon);
  require<ValueError>(in.max_steps >= 1 && in.max_steps <= kMaxActSteps, op,
                      "max_steps must be 1 to 1000", in.max_steps);
  require_together(op, in.x, in.flag, in.weight, in.bias, in.halt_weight, in.halt_bias, in.h0,
                   in.c0);
  return {states[0], in.x.size(1), G, H};
}

// What the gradient reads, and what the pointers of its contract point to.
struct Kept {
  ActForward forward;  // x, flag, bias and ponder in it may dangle
  Tensor weight, halt_weight, halt_bias, h0, c0, h, c;
  IntTensor steps;
  std::shared_ptr<ActLog> log;
};

// The numbers of each sequence's first cell, and of all cells.
IntTensor offsets_of(const Context& context, const std::vector<int32_t>& cells) {
  std::vector<int32_t> offsets{0};
  for (const int32_t of_sequence : cells) {
    require<ValueError>(of_sequence <= std::numeric_limits<int32_t>::max() - offsets.back(), "act",
                        "a gradient must have fewer than 2^31 cells; sequences", cells.size());
    offsets.push_back(offsets.back() + of_sequence);
  }
  const Shape shape{static_cast<int64_t>(offsets.size())};
  return IntTensor(context, shape, offsets);
}

// The sweep backwards gives the cotangents of every cell's s and logit; those of the weights are one
// product over all cells.
void give_gradients(const Kept& kept, Backward& back) {
  const ActForward& forward = kept.forward;
  const Context& context = kept.h.context();
  const int64_t B = forward.B, H = forward.H, GH = kept.weight.size(0);
  const bool lstm = forward.cell == RecurrentCell::lstm;
  const int ponder = lstm ? 2 : 1;  // which output
  const IntTensor offsets = offsets_of(context, kept.log->cells);
  const int64_t cells = std::accumulate(kept.log->cells.begin(), kept.log->cells.end(), int64_t{0});
  const Tensor dx(context, kept.h.shape().with(-1, GH)), dflag = zeros(context, Shape{B, GH});
  const Tensor ds(context, Shape{cells, GH + 1}), before(context, Shape{cells, H});
  const Tensor dh0 = wanted_like(back, 6, kept.h0), dc0 = wanted_like(back, 7, kept.c0);
  launch(context, ActBackward{.forward = forward,
                              .offsets = offsets.data(),
                              .dh = back.output(0).data(),
                              .dc = lstm && back.has(1) ? back.output(1).data() : nullptr,
                              .dponder = back.has(ponder) ? back.output(ponder).data() : nullptr,
                              .dx = dx.data(),
                              .dflag = dflag.data(),
                              .ds = ds.data(),
                              .before = before.data(),
                              .dh0 = data_or_null(dh0),
                              .dc0 = data_or_null(dc0)});
  if (back.wants(2) || back.wants(4)) {
    const Var both = matmul(ds, before, {.transpose_a = true});
    if (back.wants(2)) back.accumulate(2, slice(both, 0, 0, GH).value());
    if (back.wants(4)) back.accumulate(4, slice(both, 0, GH, GH + 1).value());
  }
  if (back.wants(3) || back.wants(5)) {
    const Var both = sum_to(ds, Shape{GH + 1});
    if (back.wants(3)) back.accumulate(3, slice(both, 0, 0, GH).value());
    if (back.wants(5)) back.accumulate(5, slice(both, 0, GH, GH + 1).value());
  }
  if (back.wants(0)) back.accumulate(0, dx);
  if (back.wants(1)) back.accumulate(1, sum_to(dflag, Shape{GH}).value());
  if (dh0.defined()) back.accumulate(6, dh0);
  if (dc0.defined()) back.accumulate(7, dc0);
}

}  // namespace

ActResult act(const ActInputs& in) {
  const auto [B, T, G, H] = checked("act", in);
  const Context& context = in.x.context();
  const bool lstm = in.cell == RecurrentCell::lstm;
  ActForward forward{.cell = in.cell,
                     .x = in.x.data(),
                     .flag = in.flag.data(),
                     .weight = in.weight.data(),
                     .bias = data_or_null(in.bias),
                     .halt_weight = in.halt_weight.data(),
                     .halt_bias = in.halt_bias.data(),
                     .h0 = data_or_null(in.h0),
                     .c0 = lstm ? data_or_null(in.c0) : nullptr,
                     .h = nullptr,
                     .c = nullptr,
                     .ponder = nullptr,
                     .steps = nullptr,
                     .log = nullptr,
                     .epsilon = in.epsilon,
                     .max_steps = in.max_steps,
                     .B = B,
                     .T = T,
                     .H = H};
  if (context.device() == DeviceKind::cuda && !has_fused(context, forward)) return act_by_parts(in);
  const std::vector<Var> inputs{in.x,           in.flag,      in.weight, in.bias,
                                in.halt_weight, in.halt_bias, in.h0,     in.c0};
  std::vector<Tensor> outputs(lstm ? 2 : 1, Tensor(context, Shape{B, T, H}));
  if (lstm) outputs[1] = Tensor(context, Shape{B, T, H});
  outputs.emplace_back(context, Shape{B, T});
  const IntTensor steps(context, Shape{B, T});
  std::shared_ptr<ActLog> log;
  if (std::ranges::any_of(inputs, &Var::differentiable)) log = std::make_shared<ActLog>();
  forward.h = outputs[0].data();
  forward.c = lstm ? outputs[1].data() : nullptr;
  forward.ponder = outputs.back().data();
  forward.steps = steps.data();
  forward.log = log.get();
  launch(context, forward);
  const Kept kept{forward,
                  in.weight.value(),
                  in.halt_weight.value(),
                  in.halt_bias.value(),
                  in.h0.value(),
                  in.c0.value(),
                  outputs[0],
                  lstm ? outputs[1] : Tensor(),
                  steps,
                  log};
  const std::vector<Var> of =
      record_all("act", inputs, outputs, [kept](Backward& back) { give_gradients(kept, back); });
  return {of[0], lstm ? of[1] : Var(), of.back(), steps};
}

namespace {

// What a token's halting has come to, for each sequence (B, 1).
struct Halting {
  const ActInputs& in;
  std::vector<real> sums, going;  // p_1 + .. ; 1 until it halts
  std::vector<int32_t> steps;
  Var sum, remainder;
  int64_t n = 0;

  Halting(const ActInputs& in, int64_t B)
      : in(in),
        sums(B),
        going(B, 1),
        steps(B),
        sum(zeros(in.x.context(), Shape{B, 1})),
        remainder(sum) {}
  bool anyone() const { return std::ranges::find(going, real(1)) != going.end(); }

  // The weights of the next step, whose probabilities are p.
  Var weights(const Var& p) {
    const std::vector<real> values = p.value().to_vector();
    std::vector<real> halts(going.size());
    ++n;
    for (size_t b = 0; b < going.size(); ++b) {
      if (going[b] == 0) continue;
      steps[b] = static_cast<int32_t>(n);
      if (sums[b] + values[b] >= 1 - in.epsilon || n == in.max_steps)
        going[b] = 0, halts[b] = 1;
      else
        sums[b] += values[b];
    }
    const Context& context = in.x.context();
    const Var on = mul(p, Tensor(context, p.shape(), going));
    const Var left = mul(affine(sum, -1, 1), Tensor(context, p.shape(), halts));
    sum = add(sum, on);
    remainder = add(remainder, left);
    return add(on, left);
  }
};

// One token: the state after it, and its ponder cost (B, 1).
RecurrentStep token_by_parts(const ActInputs& in, const Var& x, RecurrentStep state,
                             Halting& halting) {
  RecurrentStep mean;
  while (halting.anyone()) {
    const Var now = halting.n == 0 ? add(x, in.flag) : x;
    state = recurrent_step(in.cell, now, linear(state.h, in.weight, in.bias), state);
    const Var weight = halting.weights(sigmoid(linear(state.h, in.halt_weight, in.halt_bias)));
    const auto mixed = [&](const Var& so_far, const Var& part) {
      const Var more = mul(weight, part);
      return so_far.defined() ? add(so_far, more) : more;
    };
    mean.h = mixed(mean.h, state.h);
    if (state.c.defined()) mean.c = mixed(mean.c, state.c);
  }
  return mean;
}

}  // namespace

ActResult act_by_parts(const ActInputs& in) {
  const auto [B, T, G, H] = checked("act_by_parts", in);
  const Context& context = in.x.context();
  const bool lstm = in.cell == RecurrentCell::lstm;
  const auto or_zeros = [&, B = B, H = H](const Var& first) {
    return first.defined() ? first : Var(zeros(context, Shape{B, H}));
  };
  if (B == 0 || T == 0)
    return {Tensor(context, Shape{B, T, H}), lstm ? Var(Tensor(context, Shape{B, T, H})) : Var(),
            Tensor(context, Shape{B, T}), IntTensor(context, Shape{B, T})};
  RecurrentStep state{or_zeros(in.h0), lstm ? or_zeros(in.c0) : Var()};
  std::vector<Var> h, c, ponder;
  std::vector<int32_t> steps(B * T);
  int64_t t = 0;
  for (const Var& x : split(in.x, 1, std::vector<int64_t>(T, 1))) {
    Halting halting(in, B);
    state = token_by_parts(in, reshape(x, Shape{B, G * H}), state, halting);
    h.push_back(reshape(state.h, Shape{B, 1, H}));
    if (lstm) c.push_back(reshape(state.c, Shape{B, 1, H}));
    const std::vector<real> counts(halting.steps.begin(), halting.steps.end());
    ponder.push_back(add(halting.remainder, Tensor(context, Shape{B, 1}, counts)));
    for (int64_t b = 0; b < B; ++b) steps[b * T + t] = halting.steps[b];
    ++t;
  }
  return {concat(h, 1), lstm ? concat(c, 1) : Var(), concat(ponder, 1),
          IntTensor(context, Shape{B, T}, steps)};
}

namespace {

GateWeights weights_of(const ActForward& args) {
  return {args.weight, args.bias, 1, gates_of(args.cell), args.H};
}

// At their first token, or at their last.
ActBlock block_of(const ActForward& args, int64_t begin, int64_t sequences, bool at_end) {
  ActBlock block{.begin = begin, .sequences = sequences, .active = sequences, .places = {}};
  for (int64_t i = 0; i < sequences; ++i) {
    const int64_t b = begin + i;
    ActPlace& at = block.places[i];
    at = {.sequence = i,
          .t = 0,
          .n = 1,
          .cell = 0,
          .sum = 0,
          .h = args.h0 != nullptr ? args.h0 + b * args.H : nullptr,
          .c = args.c0 != nullptr ? args.c0 + b * args.H : nullptr};
    if (!at_end) continue;
    const int32_t* const steps = args.steps + b * args.T;
    at.t = args.T - 1;
    at.n = steps[at.t];
    at.cell = std::accumulate(steps, steps + args.T, int64_t{-1});
  }
  return block;
}

}  // namespace

void run(Cpu cpu, const ActForward& args) {
  if (args.log != nullptr) args.log->cells.assign(args.B, 0);
  if (args.B == 0 || args.T == 0) return;
  const Tensor panels = packed_gates(cpu, weights_of(args), Sweep::forward);
  const auto kernel = FPRNN_SELECT(cpu, act_forward);
  const int64_t rows = sequences_of_block(cpu, weights_of(args), args.B, args.T);
  const int64_t blocks = pieces(args.B, rows);
  // A token takes at least one cell; what the last chunk has too many costs little.
  const int64_t rounds = args.log != nullptr ? pieces(args.T, 4) : 1;
  const Shape chunk_shape{rounds, rows, FPRNN_SELECT(cpu, act_numbers)(args)};
  if (args.log != nullptr) {
    args.log->rounds = rounds;
    args.log->blocks.resize(blocks);
  }
  parallel_tasks(cpu, blocks, [&](int64_t i) {
    const int64_t begin = i * rows;
    ActBlock block = block_of(args, begin, std::min(args.B - begin, rows), false);
    const Tensor scratch(cpu.context, Shape{state_reals(cpu, args.H)});
    Tensor chunk;
    std::vector<Tensor> chunks;
    for (int64_t first = 0; block.active > 0; first += rounds) {
      if (args.log != nullptr || first == 0) chunk = Tensor(cpu.context, chunk_shape);
      if (args.log != nullptr) chunks.push_back(chunk);
      real* const at = chunk.data();
      kernel(args, panels.data(), block, {.chunks = &at, .rounds = rounds, .first = first},
             scratch.data());
    }
    if (args.log == nullptr) return;
    args.log->blocks[i] = {begin, block.sequences, std::move(chunks)};
    for (int64_t b = begin; b < begin + block.sequences; ++b)
      args.log->cells[b] =
          std::accumulate(args.steps + b * args.T, args.steps + (b + 1) * args.T, int32_t{0});
  });
}

void run(Cpu cpu, const ActBackward& args) {
  const ActForward& in = args.forward;
  for (real* const first : {args.dh0, args.dc0})  // where there is no step to reach them
    if (first != nullptr && in.T == 0) std::fill(first, first + in.B * in.H, real(0));
  const Tensor panels = packed_gates(cpu, weights_of(in), Sweep::backward);
  const int64_t space = (4 + gates_of(in.cell)) * state_reals(cpu, in.H);
  const auto kernel = FPRNN_SELECT(cpu, act_backward);
  const std::vector<ActLog::Block>& blocks = in.log->blocks;
  parallel_tasks(cpu, static_cast<int64_t>(blocks.size()), [&](int64_t i) {
    ActBlock block = block_of(in, blocks[i].begin, blocks[i].sequences, true);
    const Tensor scratch(cpu.context, Shape{space});
    std::vector<real*> chunks;
    for (const Tensor& chunk : blocks[i].chunks) chunks.push_back(chunk.data());
    kernel(args, panels.data(), block, {.chunks = chunks.data(), .rounds = in.log->rounds},
           scratch.data());
  });
}

}  // namespace fprnn
