#include <fprnn/core/vector.h>
#include <fprnn/models/pd_ssm.h>
#include <fprnn/models/registry.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

#include <cmath>

namespace fprnn {

namespace {

const PdSsmOptions& checked(const PdSsmOptions& of) {
  check_sizes("pd_ssm", {of.d_model, of.d_state, of.dictionary_size, of.hidden_multiple});
  check_sizes("pd_ssm", {of.hidden_multiple * of.d_state});
  return of;
}

// N(0, 1 / of).
Tensor drawn(const Init& init, const Shape& shape, int64_t of) {
  const double deviation = 1 / std::sqrt(static_cast<double>(of));
  return normal(init.context, shape, 0, static_cast<real>(deviation), init.rng);
}

// A bias starts as PyTorch's, like the weight: U(+-1 / sqrt(inputs)).
void draw_bias(const Linear& linear, const Init& init) {
  const double inputs = static_cast<double>(linear.weight.value.size(1));
  linear.bias->value = init.uniform(linear.bias->value.shape(), 1 / std::sqrt(inputs));
}

}  // namespace

PdSsm::Generator::Generator(Module& parent, std::string name, const Init& init,
                            const PdSsmOptions& options)
    : Module(parent, std::move(name)),
      in(*this, "0", init, options.d_model, options.hidden_multiple * options.d_state,
         {.bias = true}),
      out(*this, "2", init, options.hidden_multiple * options.d_state, options.d_state,
          {.bias = true}) {
  draw_bias(in, init);
  draw_bias(out, init);
}

Var PdSsm::Generator::forward(const Var& u) { return sigmoid(out.forward(gelu(in.forward(u)))); }

PdSsm::PdSsm(Module& parent, std::string name, const Init& init, const PdSsmOptions& options)
    : StateLayer(parent, std::move(name), "pd_ssm"),
      options_(checked(options)),
      magnitude_(*this, "D_magnitude_generator", init, options_),
      phase_(*this, "D_phase_generator", init, options_),
      selection_(*this, "S", init, options_.d_model, options_.dictionary_size),
      dictionary_(add_parameter(
          "A_dict", drawn(init, {options_.d_state, options_.d_state, options_.dictionary_size},
                          options_.d_state))),
      b_re_(add_parameter("B_re",
                          drawn(init, {options_.d_state, options_.d_model}, 2 * options_.d_state))),
      b_im_(add_parameter("B_im",
                          drawn(init, {options_.d_state, options_.d_model}, 2 * options_.d_state))),
      skip_(add_parameter("D", drawn(init, {options_.d_model}, options_.d_model), Decay::no)),
      readout_(*this, "readout", init, 2 * options_.d_state, options_.d_model, {.bias = true}),
      norm_(*this, "norm", init, options_.d_model, options_.eps) {
  draw_bias(readout_, init);
}

std::vector<Shape> PdSsm::state_shapes(int64_t B) const { return {{B, 2 * options_.d_state}}; }

Var PdSsm::forward(const Var& u, Var& h) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.d_model, "pd_ssm", "u must be (B, T, d)",
          u.shape(), options_.d_model);
  const int64_t B = u.size(0), T = u.size(1), N = options_.d_state;
  const Var magnitude = magnitude_.forward(u), turns = phase_.forward(u);
  PdScanInputs scan{
      .selection = selection_.forward(u),
      .dictionary = on_tape_of(u, dictionary_),
      .d = concat({mul(magnitude, cos_turns(turns)), mul(magnitude, sin_turns(turns))}, -1),
      .b = linear(u, concat({on_tape_of(u, b_re_), on_tape_of(u, b_im_)}, 0)),
      .h0 = h,
      .one_hot = options_.one_hot};
  if (!h.defined() && options_.starts_at_one)
    scan.h0 = concat({full(u.context(), {B, 1}, 1), zeros(u.context(), {B, 2 * N - 1})}, 1);
  const Var all = pd_scan(scan);
  if (T > 0) h = reshape(slice(all, 1, T - 1, T), Shape{B, 2 * N});
  return norm_.forward(add(readout_.forward(all), mul(u, on_tape_of(u, skip_))));
}

ModelKind pd_ssm_kind() {
  struct Own {
    PdSsmOptions options;
    std::string one_hot = "column", initial_state = "e1";
  };
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<Own>();
    PdSsmOptions& options = own->options;
    settings.add("d_state", options.d_state, "Complex states");
    settings.add("dictionary_size", options.dictionary_size,
                 "Matrices that a token's transition is chosen from");
    settings.add("hidden_multiple", options.hidden_multiple,
                 "Hidden units of what makes magnitudes and phases, in units of d-state");
    settings.add("one_hot", own->one_hot, "What of a transition has one entry", {"column", "row"});
    settings.add("initial_state", own->initial_state, "The state before the first token",
                 {"e1", "zero"});
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      PdSsmOptions options = own->options;
      options.d_model = place.d_model;
      options.one_hot = own->one_hot == "row" ? OneHot::row : OneHot::column;
      options.starts_at_one = own->initial_state == "e1";
      return std::make_unique<PdSsm>(parent, std::move(name), init, options);
    };
  };
  return {.name = "pd-ssm",
          .about = "A complex diagonal times a map of states: any automaton of d-state states",
          .declare = declare};
}

}  // namespace fprnn
