// The ends of what sizes may be. 0: every op of the table with each of its sizes 0 in turn, and every layer
// without sequences and without steps. Many: sequences, steps and channels beyond what one axis of
// a GPU's grid or a block holds, op by op (the layers are in test_extents_layers.cpp). All with all
// gradients.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/core/vector.h>

#include <cmath>
#include <map>
#include <set>

#include "close.h"
#include "finite_difference.h"
#include "needs.h"
#include "run_case.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kMost = 2000;  // elements of a case's inputs

std::set<int64_t> sizes_of(const OpCase& entry) {
  std::set<int64_t> sizes;
  for (const Input& input : entry.inputs)
    for (const int64_t size : input.shape.sizes()) sizes.insert(size);
  return sizes;
}

// The case with 0 in the place of this size, wherever it stands.
OpCase without(OpCase entry, int64_t size) {
  for (Input& input : entry.inputs)
    for (int axis = 0; axis < input.shape.rank(); ++axis)
      if (input.shape[axis] == size) input.shape = input.shape.with(axis, 0);
  return entry;
}

// Outputs and gradients are what the reference and its differences give.
void check_result(const OpCase& entry, const Values& inputs, const Result& result) {
  const std::string name = name_of(entry);
  const Arrays truth = entry.reference(arrays_of(entry, inputs));
  CHECK_MESSAGE(result.unchanged, name);
  REQUIRE_MESSAGE(result.outputs.size() == truth.size(), name);
  for (size_t i = 0; i < truth.size(); ++i) {
    CHECK_MESSAGE(result.shapes[i] == truth[i].shape, name << ", output " << i);
    check_close(fmt::format("{}, output {}", name, i), result.outputs[i], truth[i].data,
                entry.forward_tolerance);
  }
  size_t asked = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!entry.inputs[i].differentiable) continue;
    const GradientError found =
        gradient_error(entry, inputs, result.seeds, i, result.gradients[asked++]);
    CHECK_MESSAGE(found.error <= entry.gradient_tolerance,
                  name << ", input " << i << ": error " << found.error << ", " << found.where);
  }
}

// Whether the op takes such sizes.
bool check_empty(const Context& context, const OpCase& entry) {
  const Values inputs = draw_inputs(entry);
  Result result;
  try {
    result = run_case(context, entry, inputs);
  } catch (const ShapeError&) {
    return false;
  } catch (const ValueError&) {
    return false;
  }
  check_result(entry, inputs, result);
  return true;
}

}  // namespace

TEST_CASE("empty: every op of the table with each of its sizes 0") {
  const Context context = test_context();
  std::map<std::string, int> taken;
  std::set<std::string> done;
  for (const OpCase& entry : op_table().cases) {
    taken.try_emplace(entry.op);
    int64_t elements = 0;
    for (const Input& input : entry.inputs) elements += input.shape.elements();
    if (elements > kMost) continue;
    for (const int64_t size : sizes_of(entry)) {
      const OpCase empty = without(entry, size);
      if (done.insert(name_of(empty)).second) taken[entry.op] += check_empty(context, empty);
    }
  }
  taken.erase("masked_cross_entropy");  // of no rows there is no mean, of no classes no target
  for (const auto& entry : taken)
    CHECK_MESSAGE(entry.second > 0, entry.first << " takes no size of 0");
}

namespace {

struct Extent {
  int64_t B, T, D;
};
// The whole of it, minutes of work, with LARGE=1.
std::vector<Extent> extents() {
  if (!environment("LARGE", "").empty()) return {{70'000, 2, 3}, {1, 300'000, 1}, {2, 1, 65'536}};
  return {{700, 2, 3}, {1, 3000, 1}, {2, 1, 4100}};
}

namespace ref = reference;

// What has one input of this shape and one output.
void add_plain(OpCases& cases, const std::string& op, const Shape& shape,
               const std::function<Var(const Var&)>& apply,
               const std::function<Array(const Array&)>& truth) {
  cases.push_back({.op = op,
                   .inputs = {{shape}},
                   .apply = [=](const Vars& x) { return Vars{apply(x[0])}; },
                   .reference = [=](const Arrays& x) { return Arrays{truth(x[0])}; }});
}
void add_case(OpCases& cases, const std::string& op, const std::vector<Input>& inputs,
              const std::function<Vars(const Vars&)>& apply,
              const std::function<Arrays(const Arrays&)>& truth) {
  cases.push_back({.op = op, .inputs = inputs, .apply = apply, .reference = truth});
}

void add_elements_and_sums(OpCases& cases, const Extent& of) {
  const Shape shape{of.B, of.T, of.D};
  const auto plain = [&](const std::string& op, Var (*apply)(const Var&),
                         Array (*truth)(const Array&)) {
    add_plain(cases, op, shape, apply, truth);
  };
  plain("exp", exp, ref::exp);
  plain("sigmoid", sigmoid, ref::sigmoid);
  plain("silu", silu, ref::silu);
  plain("softplus", softplus, ref::softplus);
  plain("tanh", tanh, ref::tanh);
  plain("square", square, ref::square);
  plain("sum", sum, ref::sum);
  plain("mean", mean, ref::mean);
  for (const int axis : {0, 1, 2}) {
    add_plain(
        cases, fmt::format("sum of axis {}", axis), shape,
        [=](const Var& x) { return sum(x, axis); },
        [=](const Array& x) { return ref::sum(x, axis); });
    const Shape one = shape.with(axis, 1);
    add_plain(
        cases, fmt::format("broadcast axis {}", axis), one,
        [=](const Var& x) { return broadcast_to(x, shape); },
        [=](const Array& x) { return ref::broadcast_to(x, shape); });
    add_case(
        cases, fmt::format("mul and add along axis {}", axis), {{shape}, {one}, {one}},
        [](const Vars& x) { return Vars{add(mul(x[0], x[1]), x[2])}; },
        [](const Arrays& x) { return Arrays{ref::add(ref::mul(x[0], x[1]), x[2])}; });
    add_case(
        cases, fmt::format("sub and div along axis {}", axis), {{shape}, {one}, {one, 0.5, 1}},
        [](const Vars& x) { return Vars{div(sub(x[0], x[1]), x[2])}; },
        [](const Arrays& x) { return Arrays{ref::div(ref::sub(x[0], x[1]), x[2])}; });
    add_case(
        cases, fmt::format("concat and slice of axis {}", axis), {{shape}, {one}},
        [=](const Vars& x) {
          const Var both = concat({x[1], x[0]}, axis);
          return Vars{both, slice(both, axis, shape[axis], shape[axis] + 1)};
        },
        [=](const Arrays& x) {
          const Array both = ref::concat({x[1], x[0]}, axis);
          return Arrays{both, ref::slice(both, axis, shape[axis], shape[axis] + 1)};
        });
  }
  add_case(
      cases, "shift", {{shape}, {{of.B, of.D}}},
      [](const Vars& x) { return Vars{shift(x[0], x[1])}; },
      [](const Arrays& x) { return Arrays{ref::shift(x[0], &x[1])}; });
}

void add_rows(OpCases& cases, const Extent& of) {
  const Shape shape{of.B, of.T, of.D};
  const Input weight{{of.D}, 0.5, 1.5}, bias{{of.D}};
  const real eps = real(0.1);
  add_case(
      cases, "layer_norm", {{shape}, weight, bias},
      [=](const Vars& x) { return Vars{layer_norm(x[0], x[1], x[2], eps)}; },
      [=](const Arrays& x) { return Arrays{ref::layer_norm(x[0], x[1], x[2], eps)}; });
  add_case(
      cases, "gated_norm", {{shape}, {shape}, weight, bias},
      [=](const Vars& x) { return Vars{gated_norm(x[0], x[1], x[2], x[3], eps)}; },
      [=](const Arrays& x) {
        return Arrays{ref::layer_norm(ref::mul(x[0], ref::silu(x[1])), x[2], x[3], eps)};
      });
  if (of.D == 1)  // its gradient is 0
    for (size_t i = cases.size() - 2; i < cases.size(); ++i) cases[i].gradient_floor = 1;
  add_case(
      cases, "rms_norm", {{shape}, weight},
      [=](const Vars& x) { return Vars{rms_norm(x[0], x[1], eps)}; },
      [=](const Arrays& x) { return Arrays{ref::rms_norm(x[0], x[1], eps)}; });
  add_plain(
      cases, "l2_normalize", shape, [=](const Var& x) { return l2_normalize(x, real(4)); },
      [=](const Array& x) { return ref::l2_normalize(x, 4); });
  for (const bool narrow : {false, true}) {
    const int64_t K = narrow ? 2 : of.D, N = narrow ? of.D : 2;
    add_case(
        cases, "linear", {{shape.with(-1, K)}, {{N, K}}, {{N}}},
        [](const Vars& x) { return Vars{linear(x[0], x[1], x[2])}; },
        [](const Arrays& x) { return Arrays{ref::linear(x[0], x[1], &x[2])}; });
    add_case(
        cases, "weight_norm", {{{N, 1}, 0.5, 1.5}, {{N, K}, 0.5, 1.5}},
        [](const Vars& x) { return Vars{weight_norm(x[0], x[1])}; },
        [](const Arrays& x) { return Arrays{ref::weight_norm(x[0], x[1])}; });
    cases.back().gradient_floor = 1;  // of rows of one number
  }
  add_case(
      cases, "matmul", {{shape}, {{of.D, 2}}},
      [](const Vars& x) { return Vars{matmul(x[0], x[1])}; },
      [](const Arrays& x) { return Arrays{ref::matmul(x[0], x[1], false, false)}; });
  add_case(
      cases, "batched_matmul", {{shape}, {{of.B, of.D, 2}}},
      [](const Vars& x) { return Vars{batched_matmul(x[0], x[1])}; },
      [](const Arrays& x) { return Arrays{ref::batched_matmul(x[0], x[1], false, false)}; });
  add_case(
      cases, "add_outer", {{{of.B, of.D, 2}}, {{of.B, of.D}}, {{of.B, 2}}},
      [](const Vars& x) { return Vars{add_outer(x[0], x[1], x[2])}; },
      [](const Arrays& x) { return Arrays{ref::add_outer(x[0], x[1], x[2])}; });
}

void add_recurrent(OpCases& cases, const Extent& of) {
  const Shape shape{of.B, of.T, of.D};
  constexpr int64_t N = 2, W = 4;
  add_case(
      cases, "causal_conv", {{shape}, {{of.D, W}}, {{of.D}}, {{of.B, W - 1, of.D}}},
      [](const Vars& x) { return Vars{causal_conv(x[0], x[1], x[2], x[3])}; },
      [](const Arrays& x) { return Arrays{ref::causal_conv(x[0], x[1], &x[2], &x[3])}; });
  add_case(
      cases, "conv_state", {{shape}, {{of.B, W - 1, of.D}}},
      [](const Vars& x) { return Vars{conv_state(x[0], W, x[1])}; },
      [](const Arrays& x) { return Arrays{ref::conv_state(x[0], W, &x[1])}; });
  for (const bool reverse : {false, true})
    add_case(
        cases, reverse ? "scan reverse" : "scan", {{shape, 0, 0.99}, {shape}, {{of.B, of.D}}},
        [=](const Vars& x) { return Vars{scan(x[0], x[1], {.h0 = x[2], .reverse = reverse})}; },
        [=](const Arrays& x) { return Arrays{ref::scan(x[0], x[1], &x[2], reverse)}; });
  const Shape states{of.B, of.T, N};
  add_case(
      cases, "selective_scan",
      {{shape},
       {shape, -3, 1},
       {{of.D, N}, -2, -0.1},
       {states},
       {states},
       {{of.D}},
       {{of.B, of.D, N}}},
      [](const Vars& x) {
        const auto [y, state] = selective_scan(
            {.u = x[0], .delta = x[1], .a = x[2], .b = x[3], .c = x[4], .skip = x[5], .h0 = x[6]});
        return Vars{y, state};
      },
      [](const Arrays& x) {
        const auto [y, state] = ref::selective_scan({.u = &x[0],
                                                     .delta = &x[1],
                                                     .a = &x[2],
                                                     .b = &x[3],
                                                     .c = &x[4],
                                                     .skip = &x[5],
                                                     .h0 = &x[6]});
        return Arrays{y, state};
      });
}

void add_mixed(OpCases& cases, const Extent& of) {
  const Shape shape{of.B, of.T, of.D};
  const double range = 1 / std::sqrt(double(of.D));
  const Input u{{of.B, of.T, 2, of.D}, -range, range}, alpha{{of.B, of.T, 2}, 0.1, 0.9};
  add_case(
      cases, "householder", {u, alpha, {shape}},
      [](const Vars& x) { return Vars{householder(x[0], x[1], x[2], 1)}; },
      [](const Arrays& x) { return Arrays{ref::householder(x[0], x[1], x[2], 1)}; });
  add_case(
      cases, "dplr", {u, alpha, {shape}},
      [](const Vars& x) { return Vars{dplr(x[0], x[1], x[2], 1)}; },
      [](const Arrays& x) { return Arrays{ref::dplr(x[0], x[1], x[2], 1)}; });
  const KroneckerSizes sizes = kronecker_sizes(of.D);
  const int64_t m1 = sizes.m1, m2 = sizes.m2, D = of.D;
  add_case(
      cases, "kronecker_factors",
      {{shape.with(-1, sizes.triangles()), 0.2, 1.2}, {shape.with(-1, m1 + m2), 0.1, 0.9}},
      [=](const Vars& x) {
        const auto [left, right] = kronecker_factors(x[0], x[1], D, KroneckerNorm::row, real(1e-5));
        return Vars{left, right};
      },
      [=](const Arrays& x) {
        const auto [left, right] =
            ref::kronecker_factors(x[0], x[1], m1, m2, {true, false}, real(1e-5));
        return Arrays{left, right};
      });
  if (D == 1) cases.back().gradient_floor = 1;  // one number over its length
  const double small = 1 / std::sqrt(double(m2));
  add_case(
      cases, "kronecker",
      {{{of.B, of.T, m1, m1}, -small, small}, {{of.B, of.T, m2, m2}, -small, small}, {shape}},
      [](const Vars& x) {
        return Vars{kronecker({x[0], x[1]}, x[2], 1)};
      },
      [](const Arrays& x) { return Arrays{ref::kronecker(x[0], x[1], x[2], 1)}; });
}

// Rows of classes, and the tokens of a table.
void add_tokens(OpCases& cases, const Extent& of) {
  const Shape tokens{of.B, of.T};
  std::vector<int32_t> places(tokens.elements());
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<int32_t>((i * i + 1) % of.D);
  const std::vector<double> mask(places.size(), 0.5);
  add_case(
      cases, "masked_cross_entropy", {{tokens.appended(of.D)}},
      [=](const Vars& x) {
        const Context& at = x[0].context();
        return Vars{
            masked_cross_entropy(x[0], IntTensor(at, tokens, places), full(at, tokens, real(0.5)))};
      },
      [=](const Arrays& x) { return Arrays{ref::masked_cross_entropy(x[0], places, mask)}; });
  if (of.D == 1) cases.back().gradient_floor = 1;
  add_case(
      cases, "embedding", {{{of.D, 2}}},
      [=](const Vars& x) {
        return Vars{embedding(x[0], IntTensor(x[0].context(), tokens, places))};
      },
      [=](const Arrays& x) { return Arrays{ref::embedding(x[0], places, tokens)}; });
}

}  // namespace

namespace {

void check_ops(const Extent& of) {
  const Context context = test_context();
  OpCases cases;
  for (const auto add : {add_elements_and_sums, add_rows, add_recurrent, add_mixed, add_tokens})
    add(cases, of);
  for (const OpCase& entry : cases) {
    CAPTURE(name_of(entry));
    const Values inputs = draw_inputs(entry);
    check_result(entry, inputs, run_case(context, entry, inputs));
  }
}

}  // namespace

TEST_CASE("extents: every op with 70,000 sequences") { check_ops(extents()[0]); }
TEST_CASE("extents: every op with 300,000 steps") { check_ops(extents()[1]); }
TEST_CASE("extents: every op with 65,536 channels") { check_ops(extents()[2]); }

}  // namespace fprnn::tests
