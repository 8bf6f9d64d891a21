#include <fprnn/core/vector.h>
#include <fprnn/models/act.h>
#include <fprnn/models/registry.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/reduce.h>

#include <cmath>

namespace fprnn {

namespace {

const ActOptions& checked(const ActOptions& options) {
  check_sizes("act", {options.inputs, options.hidden});
  const auto epsilon = static_cast<real>(options.epsilon);
  require<ValueError>(epsilon >= 0 && epsilon < 1, "act", "epsilon must be in [0, 1)",
                      options.epsilon);
  require<ValueError>(options.max_steps >= 1 && options.max_steps <= kMaxActSteps, "act",
                      "max_steps must be 1 to 1000", options.max_steps);
  const auto tau = static_cast<real>(options.ponder_weight);
  require<ValueError>(tau >= 0 && std::isfinite(tau), "act",
                      "ponder_weight must be finite and not negative", options.ponder_weight);
  return options;
}

Tensor drawn(const Init& init, const ActOptions& options, int64_t columns) {
  const int64_t rows = gates_of(options.cell) * options.hidden;
  return init.uniform(columns > 0 ? Shape{rows, columns} : Shape{rows},
                      1 / std::sqrt(static_cast<double>(options.hidden)));
}

}  // namespace

Act::Act(Module& parent, std::string name, const Init& init, const ActOptions& options)
    : Layer(parent, std::move(name)),
      options_(checked(options)),
      weight_ih_(add_parameter("cell.weight_ih", drawn(init, options, options.inputs + 1))),
      weight_hh_(add_parameter("cell.weight_hh", drawn(init, options, options.hidden))),
      bias_ih_(add_parameter("cell.bias_ih", drawn(init, options, 0), Decay::no)),
      bias_hh_(add_parameter("cell.bias_hh", drawn(init, options, 0), Decay::no)),
      halt_(*this, "halt", init, options.hidden, 1, {.bias = true}) {
  halt_.bias->value = full(init.context, Shape{1}, 1);  // few steps at the start
}

Var Act::evaluate(const Var& u, LayerState* state, const Conditions& on) {
  require<ValueError>(!on.state_mask.defined(), "act", "no step of it can forget its state");
  const bool lstm = options_.cell == RecurrentCell::lstm;
  ActState carried;
  if (state != nullptr && !state->empty()) {
    if (u.shape().rank() == 3) {
      const Shape one{u.size(0), options_.hidden};
      check_state("act", *state, std::vector<Shape>(lstm ? 2 : 1, one));
    }
    carried = {(*state)[0], state->size() > 1 ? (*state)[1] : Tensor()};
  }
  const ActResult out = forward(u, carried);
  if (state != nullptr && carried.h.defined()) {
    *state = {carried.h.value()};
    if (lstm) state->push_back(carried.c.value());
  }
  report_ = {.residual = zeros(u.context(), out.steps.shape()), .iterations = out.steps};
  if (on.losses != nullptr && options_.ponder_weight > 0 && out.ponder.elements() > 0)
    on.losses->push_back(affine(mean(out.ponder), static_cast<real>(options_.ponder_weight), 0));
  return out.h;
}

ActResult Act::forward(const Var& u, ActState& state) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.inputs, "act", "u must be (B, T, inputs)",
          u.shape(), options_.inputs);
  const std::vector<Var> columns = split(on_tape_of(u, weight_ih_), 1, {options_.inputs, 1});
  const ActResult out = act({.cell = options_.cell,
                             .x = linear(u, columns[0], on_tape_of(u, bias_ih_)),
                             .flag = reshape(columns[1], Shape{columns[1].elements()}),
                             .weight = on_tape_of(u, weight_hh_),
                             .bias = on_tape_of(u, bias_hh_),
                             .halt_weight = on_tape_of(u, halt_.weight),
                             .halt_bias = on_tape_of(u, *halt_.bias),
                             .h0 = state.h,
                             .c0 = state.c,
                             .epsilon = static_cast<real>(options_.epsilon),
                             .max_steps = options_.max_steps});
  const int64_t B = u.size(0), T = u.size(1);
  const auto last = [&](const Var& of) {
    return reshape(slice(of, 1, T - 1, T), Shape{B, options_.hidden});
  };
  if (T > 0) state = {last(out.h), out.c.defined() ? last(out.c) : Var()};
  return out;
}

ModelKind act_kind() {
  struct Own {
    ActOptions options;
    std::string cell = "lstm";
  };
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<Own>();
    ActOptions& options = own->options;
    settings.add("cell", own->cell, "What is repeated", {"lstm", "gru"});
    settings.add("epsilon", options.epsilon,
                 "A token halts where its probabilities reach 1 - epsilon");
    settings.add("max_steps", options.max_steps, "Most steps of a token");
    settings.add("ponder_weight", options.ponder_weight,
                 "Weight of the mean ponder cost in the loss");
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      ActOptions options = own->options;
      options.cell = own->cell == "gru" ? RecurrentCell::gru : RecurrentCell::lstm;
      options.inputs = options.hidden = place.d_model;
      return std::make_unique<Act>(parent, std::move(name), init, options);
    };
  };
  return {.name = "act",
          .about = "An LSTM or GRU that decides at each token how often it repeats its cell",
          .declare = declare};
}

}  // namespace fprnn
