// The tape: what is added to what, what is walked, what is kept and what is refused.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/ops.h>

#include "close.h"
#include "context.h"
#include "refused.h"

namespace fprnn::tests {

namespace {

using Numbers = std::vector<real>;

Tensor numbers(const Context& context, const Numbers& values) {
  return Tensor(context, Shape{static_cast<int64_t>(values.size())}, values);
}

// An op y = 2 x that says how often its gradient was called.
Var counted_double(const Var& x, int& calls) {
  return record("double", {x}, affine(x.value(), 2, 0).value(), [&calls](Backward& back) {
    ++calls;
    back.accumulate(0, affine(back.output(), 2, 0).value());
  });
}

}  // namespace

TEST_CASE("tape: a variable used twice and thrice gets the sum") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {1, 2, 3}));
  const Tensor seed = numbers(context, {1, 10, 100});
  CHECK(tape.vjp({mul(x, x)}, {seed}, {x})[0].to_vector() == Numbers{2, 40, 600});
  CHECK(tape.vjp({mul(mul(x, x), x)}, {seed}, {x})[0].to_vector() == Numbers{3, 120, 2700});
  CHECK(tape.vjp({add(x, x)}, {seed}, {x})[0].to_vector() == Numbers{2, 20, 200});
  CHECK(tape.vjp({add(add(x, x), x)}, {seed}, {x})[0].to_vector() == Numbers{3, 30, 300});
  CHECK(tape.vjp({x}, {seed}, {x})[0].to_vector() == Numbers{1, 10, 100});
}

// add gives one and the same tensor to both inputs; what is added to the one must not reach the
// other.
TEST_CASE("tape: gifts shared between inputs stay what they were") {
  const Context context = test_context();
  Tape tape(context);
  const Var a = tape.variable(numbers(context, {1, 2}));
  const Var b = tape.variable(numbers(context, {3, 4}));
  const Tensor seed = numbers(context, {5, 7});
  const Var first = add(a, b);
  const Var sum = add(add(first, a), a);  // 3 a + b
  const auto cotangents = tape.vjp({sum}, {seed}, {a, b, first});
  CHECK(cotangents[0].to_vector() == Numbers{15, 21});
  CHECK(cotangents[1].to_vector() == Numbers{5, 7});
  CHECK(cotangents[2].to_vector() == Numbers{5, 7});
  CHECK(seed.to_vector() == Numbers{5, 7});
}

TEST_CASE("tape: seeds of one variable given twice are added and not changed") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {1, 2}));
  const Var y = affine(x, 2, 0);
  const Tensor seed = numbers(context, {1, 10});
  CHECK(tape.vjp({y, y, x}, {seed, seed, seed}, {x})[0].to_vector() == Numbers{5, 50});
  CHECK(seed.to_vector() == Numbers{1, 10});
}

// A product and a norm add their gifts where the sum is, unless that is somebody's seed.
TEST_CASE("tape: products and norms of one variable add up in one tensor and leave seeds alone") {
  const Context context = test_context();
  Tape tape(context);
  const auto one = [&](const Shape& shape, const Numbers& x) { return Tensor(context, shape, x); };
  const Var x = tape.variable(one({1, 2}, {1, 2}));
  const Tensor first = one({1, 2}, {3, 5}), second = one({2, 2}, {7, 11, 13, 17});
  const Tensor seed = one({1, 1}, {10}), of_two = one({1, 2}, {1, 100}), own = one({1, 2}, {1, 1});
  const Var n = layer_norm(x, numbers(context, {1, 2}), numbers(context, {3, 4}), 1);
  const Var y = linear(x, first), z = linear(x, second);
  const auto parts = linear_parts(x, second, {1, 1});
  CHECK(tape.vjp({y, z}, {seed, of_two}, {x})[0].to_vector() == Numbers{1337, 1761});
  CHECK(tape.vjp({parts[0], parts[1], y}, {seed, seed, seed}, {x})[0].to_vector() ==
        Numbers{230, 330});
  CHECK(tape.vjp({x, y, y}, {own, seed, seed}, {x})[0].to_vector() == Numbers{61, 101});
  Numbers sum = tape.vjp({n}, {of_two}, {x})[0].to_vector();
  CHECK(tape.vjp({x, n}, {own, of_two}, {x})[0].to_vector() == Numbers{1 + sum[0], 1 + sum[1]});
  sum = {30 + sum[0], 50 + sum[1]};
  check_close("norm and product", tape.vjp({n, y}, {of_two, seed}, {x})[0].to_vector(), sum,
              kDouble ? 1e-15 : 1e-6);
  CHECK(own.to_vector() == Numbers{1, 1});
}

TEST_CASE("tape: vjp can be asked again and gives the same") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {0.5, -1, 2}));
  const Var y = mul(sigmoid(x), exp(x));
  const Tensor seed = numbers(context, {1, -2, 3});
  const auto first = tape.vjp({y}, {seed}, {x})[0].to_vector();
  CHECK(tape.vjp({y}, {seed}, {x})[0].to_vector() == first);
  const Var z = square(y);  // the tape may grow in between
  CHECK(tape.vjp({y}, {seed}, {x})[0].to_vector() == first);
  CHECK(tape.vjp({z}, {seed}, {y})[0].to_vector() ==
        mul(affine(y, 2, 0), seed).value().to_vector());
}

TEST_CASE("tape: vjp walks only what lies between") {
  const Context context = test_context();
  Tape tape(context);
  const auto forbidden = [](Backward&) { throw std::logic_error("walked"); };
  const Var x = tape.variable(numbers(context, {1, 2}));
  const Var other = tape.variable(numbers(context, {3, 4}));
  int calls = 0;
  const Var before = record("before", {x}, clone(x.value()), forbidden);
  const Var beside = record("beside", {other}, clone(other.value()), forbidden);
  const Var y = counted_double(before, calls);
  const Var after = record("after", {y}, clone(y.value()), forbidden);
  const Tensor seed = numbers(context, {1, 10});
  CHECK(tape.vjp({add(y, beside)}, {seed}, {before})[0].to_vector() == Numbers{2, 20});
  CHECK(calls == 1);
  CHECK(tape.vjp({after}, {seed}, {after})[0].to_vector() == Numbers{1, 10});
  CHECK_THROWS_AS(tape.vjp({y}, {seed}, {x}), std::logic_error);
}

TEST_CASE("tape: inputs that do not matter get zeros") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {1, 2}));
  const Var unused = tape.variable(numbers(context, {3, 4, 5}));
  const auto cotangents = tape.vjp({square(x)}, {numbers(context, {1, 1})}, {unused, x});
  CHECK(cotangents[0].to_vector() == Numbers{0, 0, 0});
  CHECK(cotangents[1].to_vector() == Numbers{2, 4});
  const Var constant = tape.constant(numbers(context, {1, 2}));
  CHECK(tape.vjp({constant}, {numbers(context, {1, 1})}, {x})[0].to_vector() == Numbers{0, 0});
}

TEST_CASE("tape: asked-for variables in the middle keep their cotangent and pass it on") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {1, 2}));
  const Var y = affine(x, 3, 0);
  const Var z = affine(y, 5, 0);
  const auto cotangents = tape.vjp({z}, {numbers(context, {1, 10})}, {x, y, z});
  CHECK(cotangents[0].to_vector() == Numbers{15, 150});
  CHECK(cotangents[1].to_vector() == Numbers{5, 50});
  CHECK(cotangents[2].to_vector() == Numbers{1, 10});
}

TEST_CASE("tape: a node with several outputs sees which of them was reached") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {1, 2}));
  std::vector<bool> reached;
  const auto twins =
      record_all("twins", {x}, {clone(x.value()), full(context, Shape{3}, 1)}, [&](Backward& back) {
        reached = {back.has(0), back.has(1)};
        CHECK(back.output(1).to_vector() == Numbers{0, 0, 0});
        back.accumulate(0, back.output(0));
      });
  CHECK(tape.vjp({twins[0]}, {numbers(context, {1, 10})}, {x})[0].to_vector() == Numbers{1, 10});
  CHECK(reached == std::vector<bool>{true, false});
}

// What a fixed point does: its gradient records a step on a tape of its own and asks that.
TEST_CASE("tape: a gradient may use an inner tape") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {0.5, -1}));
  const Var scaled = affine(x, 2, 0);
  const Var y = record(
      "square", {scaled}, square(scaled.value()).value(), [at = scaled.value()](Backward& back) {
        Tape inner(at.context());
        const Var point = inner.variable(at);
        back.accumulate(0, inner.vjp({square(point)}, {back.output()}, {point})[0]);
      });
  CHECK(tape.vjp({y}, {numbers(context, {1, 10})}, {x})[0].to_vector() == Numbers{4, -80});
}

TEST_CASE("tape: NoGrad records nothing and lets closures go") {
  const Context context = test_context();
  Parameter weight{"weight", numbers(context, {1, 2}), {}};
  NoGrad tape(context);
  CHECK(!tape.recording());
  const int64_t before = context.memory().statistics().bytes_in_use;
  {
    const Var y = exp(mul(tape.leaf(weight), tape.variable(numbers(context, {3, 4}))));
    CHECK(!y.differentiable());
    CHECK(y.tape() == &tape);
  }
  CHECK(context.memory().statistics().bytes_in_use == before);
  check_refused<UsageError>("recorded", [&] { tape.backward(sum(tape.leaf(weight))); });
}

TEST_CASE("tape: plain tensors need no tape") {
  const Context context = test_context();
  const Var y = add(numbers(context, {1, 2}), numbers(context, {3, 4}));
  CHECK(y.tape() == nullptr);
  CHECK(y.value().to_vector() == Numbers{4, 6});
}

TEST_CASE("backward: gradients of parameters add up until they are reset") {
  const Context context = test_context();
  Parameter weight{"weight", numbers(context, {1, 2}), {}};
  Parameter unused{"unused", numbers(context, {1}), {}};
  Tape tape(context);
  for (int round = 1; round <= 2; ++round) {
    const Var leaf = tape.leaf(weight);
    CHECK(tape.leaf(weight).id() == leaf.id());
    tape.leaf(unused);
    tape.backward(sum(mul(leaf, tape.leaf(weight))));
    CHECK(weight.gradient.to_vector() == Numbers{real(2 * round), real(4 * round)});
    CHECK(!unused.gradient.defined());
  }
  weight.gradient = Tensor();
  tape.backward(sum(tape.leaf(weight)));
  CHECK(weight.gradient.to_vector() == Numbers{1, 1});
}

// The cotangents of both parameters begin as one tensor.
TEST_CASE("backward: gradients of two parameters do not share what they add to") {
  const Context context = test_context();
  Parameter a{"a", numbers(context, {1, 2}), {}};
  Parameter b{"b", numbers(context, {3, 4}), {}};
  Tape tape(context);
  tape.backward(sum(add(tape.leaf(a), tape.leaf(b))));
  tape.backward(sum(tape.leaf(a)));
  CHECK(a.gradient.to_vector() == Numbers{2, 2});
  CHECK(b.gradient.to_vector() == Numbers{1, 1});
}

TEST_CASE("backward: frees what was recorded") {
  const Context context = test_context();
  Parameter weight{"weight", full(context, {8, 8}, real(0.5)), {}};
  Tape tape(context);
  const auto step = [&] {
    const Var x = full(context, {100, 8}, 1);
    tape.backward(mean(square(tanh(linear(x, tape.leaf(weight))))));
  };
  step();
  step();  // from here on the old gradient and a new one are held at once
  const MemoryStatistics first = context.memory().statistics();
  for (int repeat = 0; repeat < 3; ++repeat) step();
  const MemoryStatistics last = context.memory().statistics();
  CHECK(last.bytes_in_use == first.bytes_in_use);  // the weight and its gradient
  CHECK(last.bytes_in_use <= 2 * 1024);
  CHECK(last.peak_bytes == first.peak_bytes);
  CHECK(last.system_allocations == first.system_allocations);
}

TEST_CASE("tape: what cannot go together is refused") {
  const Context context = test_context(), elsewhere = test_context();
  Tape tape(context), other(context);
  const Var x = tape.variable(numbers(context, {1, 2})),
            y = other.variable(numbers(context, {1, 2}));
  const Tensor seed = numbers(context, {1, 1});
  check_refused<UsageError>("one tape", [&] { add(x, y); });
  check_refused<UsageError>("one Context", [&] { add(x, numbers(elsewhere, {1, 2})); });
  check_refused<UsageError>("outputs must be of this tape", [&] { tape.vjp({y}, {seed}, {x}); });
  check_refused<UsageError>("variables of this tape", [&] { tape.vjp({x}, {seed}, {y}); });
  check_refused<UsageError>("variables of this tape",
                            [&] { tape.vjp({x}, {seed}, {tape.constant(seed)}); });
  check_refused<UsageError>("recorded on this tape", [&] { tape.backward(sum(y)); });
  check_refused<UsageError>("recorded on this tape",
                            [&] { tape.backward(tape.constant(full(context, {}, 1))); });
}

TEST_CASE("tape: seeds and gifts of the wrong shape are refused") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {1, 2}));
  const Tensor seed = numbers(context, {1, 1}), longer = numbers(context, {1, 1, 1});
  check_refused<ShapeError>("[vjp] there must be one seed for each output, got 1 and 2", [&] {
    tape.vjp({x}, {seed, seed}, {x});
  });
  check_refused<ShapeError>("[vjp] a seed must have its output's shape, got (2) and (3)",
                            [&] { tape.vjp({x}, {longer}, {x}); });
  check_refused<ShapeError>("[backward] the loss must be one element, got (2)",
                            [&] { tape.backward(x); });
  const Var wrong =
      record("wrong", {x}, clone(seed), [=](Backward& back) { back.accumulate(0, longer); });
  check_refused<ShapeError>("[tape] a cotangent must have its variable's shape, got (3) and (2)",
                            [&] { tape.vjp({wrong}, {seed}, {x}); });
}

}  // namespace fprnn::tests
