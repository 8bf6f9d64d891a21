// Fixed-point layers and Mamba at the ends of what sizes may be: without sequences, without steps, and with
// very many of either or of channels; with all gradients.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/reduce.h>

#include <algorithm>
#include <cmath>

#include "close.h"
#include "fp_cases.h"
#include "needs.h"
#include "run_case.h"

namespace fprnn::tests {

namespace {

// Gradients of all parameters and of the input, which must be there and 0: nothing came out of the layer.
void check_nothing(const std::string& name, const Context& context, Module& layer,
                   const std::function<Var(const Var&)>& forward, const Shape& shape) {
  Tape tape(context);
  std::vector<Var> asked{tape.variable(Tensor(context, shape))};
  const Var y = forward(asked[0]);
  CHECK_MESSAGE(y.shape() == shape, name);
  for (const auto& [path, parameter] : layer.parameters()) asked.push_back(tape.leaf(*parameter));
  const auto gradients = tape.vjp({sum(y)}, {full(context, {}, 1)}, asked);
  REQUIRE_MESSAGE(gradients.size() == asked.size(), name);
  for (size_t i = 0; i < asked.size(); ++i) {
    CHECK_MESSAGE(gradients[i].shape() == asked[i].shape(), name << ", gradient " << i);
    CHECK_MESSAGE(max_abs(gradients[i]) == 0, name << ", gradient " << i);
  }
}

const Shape kEmptyShapes[] = {{0, 3, kWidth}, {2, 0, kWidth}, {0, 0, kWidth}, {0, 1, kWidth}};

}  // namespace

TEST_CASE("empty: fixed-point layers without sequences and without steps") {
  const Context context = test_context();
  for (const Case& entry : all_cases())
    for (const Shape& shape : kEmptyShapes)
      for (const Solver solver :
           {Solver::sequential, Solver::parallel, Solver::patience, Solver::automatic})
        for (const char* gradient : {"one-step", "neumann:2", "exact"}) {
          Built built(context, entry, shape);
          built.set(solver);
          built.layer->solver.gradient.kind = gradient_named(gradient).kind;
          built.layer->solver.gradient.terms = gradient_named(gradient).terms;
          const std::string name =
              fmt::format("{} {} {} {}", entry.name, describe(shape), name_of(solver), gradient);
          CAPTURE(name);
          check_nothing(
              name, context, *built.layer, [&](const Var& u) { return built.layer->forward(u); },
              shape);
          FixedPointState state;
          check_nothing(
              name + " with a state", context, *built.layer,
              [&](const Var& u) { return built.layer->forward(u, state); }, shape);
        }
}

TEST_CASE("empty: a state is what it was after no steps") {
  const Context context = test_context();
  for (const Case& entry : all_cases()) {
    if (!entry.plain) continue;
    Built built(context, entry);
    FixedPointState state;
    built.layer->forward(built.u, state);
    const auto y = state.y.to_vector();
    const auto scan = state.carry.defined() ? state.carry.to_vector() : std::vector<real>();
    built.layer->forward(Tensor(context, {kBatch, 0, kWidth}), state);
    CHECK_MESSAGE(same_bits(state.y.to_vector(), y), entry.name);
    if (state.carry.defined()) CHECK_MESSAGE(same_bits(state.carry.to_vector(), scan), entry.name);
  }
}

TEST_CASE("empty: Mamba without sequences and without steps") {
  const Context context = test_context();
  for (const int64_t conv_width : {1, 4})
    for (const Shape& shape : kEmptyShapes) {
      Root root;
      Rng rng{.seed = 1};
      Mamba layer(root, "layer", {context, rng},
                  {.d_model = kWidth, .d_state = 4, .conv_width = conv_width});
      const std::string name = fmt::format("mamba {} conv {}", describe(shape), conv_width);
      CAPTURE(name);
      check_nothing(
          name, context, layer, [&](const Var& u) { return layer.forward(u); }, shape);
      MambaState state;
      check_nothing(
          name + " with a state", context, layer,
          [&](const Var& u) { return layer.forward(u, state); }, shape);
    }
}

namespace {

bool whole_sizes() { return !environment("LARGE", "").empty(); }

// The output, and the gradients of the input and of all parameters.
Values found(const Context& context, Module& layer, const Tensor& u, const Tensor& seed,
             const std::function<Var(const Var&)>& forward) {
  Tape tape(context);
  std::vector<Var> asked{tape.variable(u)};
  const Var y = forward(asked[0]);
  Values values{y.value().to_vector()};
  for (const auto& [path, parameter] : layer.parameters()) asked.push_back(tape.leaf(*parameter));
  for (const Tensor& gradient : tape.vjp({y}, {seed}, asked))
    values.push_back(gradient.to_vector());
  return values;
}

// What two parts of a batch give, as the whole does: sequences one after the other, parameters' gradients added.
Values joined(Values first, const Values& second) {
  for (size_t i = 0; i < first.size(); ++i)
    if (i < 2)
      first[i].insert(first[i].end(), second[i].begin(), second[i].end());
    else
      for (size_t j = 0; j < first[i].size(); ++j) first[i][j] += second[i][j];
  return first;
}

void check_same(const std::string& name, const Values& one, const Values& other) {
  REQUIRE_MESSAGE(one.size() == other.size(), name);
  // The gradient through the norm of a single channel is 0, and rounding alone is left of it: as much as thousands of
  // terms of about 1 leave, which on another processor are others.
  constexpr double kNothing = kDouble ? 1e-10 : 1e-5;
  for (size_t i = 0; i < one.size(); ++i) {
    const double tolerance = i == 0 ? kSame : kSameGradient;
    check_close(fmt::format("{}, {} {}", name, i == 0 ? "output" : "gradient", i), one[i], other[i],
                tolerance, kNothing / tolerance);
  }
}

struct Extent {
  Shape u;
  int64_t expand;
};
std::vector<Extent> extents(int64_t channels) {
  if (whole_sizes()) return {{{70'000, 2, 2}, 2}, {{2, 300'000, 1}, 1}, {{2, 3, 1}, channels}};
  return {{{700, 2, 2}, 2}, {{2, 1500, 1}, 1}, {{2, 3, 1}, 260}};
}

// All together beside the first sequence and the others each alone; on a GPU beside the CPU, too.
void check_extent(const std::string& name, const Case& entry, const Shape& shape) {
  const Context context = test_context();
  const auto given = [&](const Context& at, int64_t begin, int64_t end) {
    Built here(host_context(), entry, shape), built(at, entry, shape);
    const auto of_host = here.layer->parameters(), own = built.layer->parameters();
    for (size_t i = 0; i < own.size(); ++i)
      assign(own[i].parameter->value, of_host[i].parameter->value.to_vector());
    const auto part = [&](const Tensor& x) { return slice(x.on(at), 0, begin, end).value(); };
    return found(at, *built.layer, part(here.u), part(random(host_context(), shape, 2)),
                 [&](const Var& u) { return built.layer->forward(u); });
  };
  const int64_t B = shape[0];
  const Values whole = given(context, 0, B);
  check_same(name + ", in two parts", joined(given(context, 0, 1), given(context, 1, B)), whole);
  if (on_gpu()) check_same(name + ", beside the CPU", whole, given(host_context(), 0, B));
}

// Very many steps: all of it is finite, and begins as the CPU has it; the whole of it step by step on a CPU, for
// every layer, would take an hour.
void check_long(const std::string& name, const Case& entry, const Shape& shape) {
  constexpr int64_t kBeginning = 1000;
  const Context context = test_context();
  Built built(context, entry, shape), host(host_context(), entry, shape);
  const Values whole = found(context, *built.layer, built.u, random(context, shape, 2),
                             [&](const Var& u) { return built.layer->forward(u); });
  for (const auto& values : whole)
    CHECK_MESSAGE(std::ranges::all_of(values, [](real x) { return std::isfinite(x); }), name);
  const auto beginning = [&](const Var& x) { return slice(x, 1, 0, kBeginning).value(); };
  const Tensor expected = host.layer->forward(beginning(host.u)).value();
  check_close(name, beginning(Tensor(host_context(), shape, whole[0])).to_vector(),
              expected.to_vector(), kSame);
}

template <class Options>
void check_layers(const std::string& kind, const auto& make_case) {
  // Weights between all channels: more of them than a block's row holds, no more.
  for (const auto& [shape, expand] : extents(4100))
    for (const MixerKindRow& row : mixer_kinds()) {
      const MixerKind mixer = row.kind;
      const Options options{.d_model = shape[-1], .expand = expand, .mixer = mixer, .scale = 1};
      const std::string name =
          fmt::format("{} {} of {}, expand {}", kind, name_of(mixer), describe(shape), expand);
      CAPTURE(name);
      if (shape[1] > 10'000)
        check_long(name, make_case(name, options), shape);
      else
        check_extent(name, make_case(name, options), shape);
    }
}

}  // namespace

TEST_CASE("extents: FP-Mamba of 70,000 sequences, 300,000 steps, 4,100 channels") {
  check_layers<FpMambaOptions>("mamba", mamba_case);
}

TEST_CASE("extents: FP-RNN of 70,000 sequences, 300,000 steps, 4,100 channels") {
  check_layers<FpRnnOptions>("rnn", rnn_case);
}

TEST_CASE("extents: Mamba of 70,000 sequences, 300,000 steps, 65,536 channels") {
  const Context context = test_context();
  for (const auto& [shape, expand] : extents(65'536)) {
    Root root;
    Rng rng{.seed = 1};
    Mamba layer(root, "layer", {context, rng},
                {.d_model = shape[-1], .d_state = 4, .expand = expand});
    scramble(root);
    const Tensor u = random(context, shape, 7), seed = random(context, shape, 2);
    const Values whole =
        found(context, layer, u, seed, [&](const Var& x) { return layer.forward(x); });
    const Values parts = found(context, layer, u, seed, [&](const Var& x) {
      MambaState state;
      const Var first = layer.forward(slice(x, 1, 0, 1), state);
      return concat({first, layer.forward(slice(x, 1, 1, x.size(1)), state)}, 1);
    });
    check_same(fmt::format("mamba of {}, expand {}, in two parts", describe(shape), expand), parts,
               whole);
  }
}

}  // namespace fprnn::tests
