#include <fprnn/models/recurrent.h>
#include <fprnn/models/registry.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>

#include <cmath>

namespace fprnn {

namespace {

std::string_view name_of(RecurrentCell cell) {
  return cell == RecurrentCell::lstm ? "lstm" : "gru";
}

const RecurrentOptions& checked(const RecurrentOptions& options) {
  check_sizes(name_of(options.cell), {options.inputs, options.hidden});
  return options;
}

Tensor drawn(const Init& init, const RecurrentOptions& options, int64_t columns) {
  const int64_t rows = gates_of(options.cell) * options.hidden;
  return init.uniform(columns > 0 ? Shape{rows, columns} : Shape{rows},
                      1 / std::sqrt(static_cast<double>(options.hidden)));
}

}  // namespace

Recurrent::Recurrent(Module& parent, std::string name, const Init& init,
                     const RecurrentOptions& options)
    : StateLayer(parent, std::move(name), name_of(options.cell)),
      options_(checked(options)),
      weight_ih_(add_parameter("weight_ih_l0", drawn(init, options, options.inputs))),
      weight_hh_(add_parameter("weight_hh_l0", drawn(init, options, options.hidden))),
      bias_ih_(add_parameter("bias_ih_l0", drawn(init, options, 0), Decay::no)),
      bias_hh_(add_parameter("bias_hh_l0", drawn(init, options, 0), Decay::no)) {}

std::vector<Shape> Recurrent::state_shapes(int64_t B) const {
  return std::vector<Shape>(options_.cell == RecurrentCell::lstm ? 2 : 1,
                            Shape{B, options_.hidden});
}

Var Recurrent::forward(const Var& u, RecurrentState& state) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.inputs, op_, "u must be (B, T, inputs)",
          u.shape(), options_.inputs);
  const Var x = linear(u, on_tape_of(u, weight_ih_), on_tape_of(u, bias_ih_));
  const Var weight = on_tape_of(u, weight_hh_), bias = on_tape_of(u, bias_hh_);
  const int64_t B = u.size(0), T = u.size(1);
  const auto last = [&](const Var& of, const Var& before) {
    return T == 0 ? before : reshape(slice(of, 1, T - 1, T), Shape{B, options_.hidden});
  };
  if (options_.cell == RecurrentCell::gru) {
    const Var h = gru({.x = x, .weight = weight, .bias = bias, .h0 = state.h});
    state.h = last(h, state.h);
    return h;
  }
  const auto [h, c] = lstm({.x = x, .weight = weight, .bias = bias, .h0 = state.h, .c0 = state.c});
  state = {last(h, state.h), last(c, state.c)};
  return h;
}

namespace {

LayerMaker maker(RecurrentCell cell) {
  return [cell](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
    return std::make_unique<Recurrent>(
        parent, std::move(name), init,
        RecurrentOptions{.cell = cell, .inputs = place.d_model, .hidden = place.d_model});
  };
}

}  // namespace

ModelKind lstm_kind() {
  return {.name = "lstm",
          .about = "The dense nonlinear recurrence with a cell, one step after the other",
          .declare = [](Settings&) { return maker(RecurrentCell::lstm); }};
}

ModelKind gru_kind() {
  return {.name = "gru",
          .about = "The dense nonlinear recurrence without a cell, one step after the other",
          .declare = [](Settings&) { return maker(RecurrentCell::gru); }};
}

}  // namespace fprnn
