// A tape over time: what of before its last backward may still be used, what an op's gradient may ask,
// and that everything else is refused.
#include <doctest/doctest.h>
#include <fprnn/autograd/fixed_point.h>
#include <fprnn/autograd/picard.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/ops.h>

#include <cmath>
#include <optional>

#include "context.h"
#include "refused.h"

namespace fprnn::tests {

namespace {

using Numbers = std::vector<real>;

Tensor numbers(const Context& context, const Numbers& values) {
  return Tensor(context, Shape{static_cast<int64_t>(values.size())}, values);
}
Parameter parameter(const Context& context, const std::string& name, real value) {
  return {name, numbers(context, {value}), {}};
}

constexpr const char* kStale = "before the tape's last backward";

}  // namespace

TEST_CASE("tape over time: a variable of before the last backward is refused, its value is not") {
  const Context context = test_context();
  Parameter p = parameter(context, "p", 2), q = parameter(context, "q", 5);
  Tape tape(context);
  const Var a = affine(tape.leaf(p), 3, 0), leaf = tape.leaf(p);  // 6
  tape.backward(sum(a));
  CHECK(p.gradient.to_vector() == Numbers{3});

  const Var b = affine(tape.leaf(q), 5, 0);
  check_refused<UsageError>(kStale, [&] { mul(b, a); });
  check_refused<UsageError>(kStale, [&] { square(a); });
  check_refused<UsageError>(kStale, [&] { mul(b, leaf); });
  for (const Var& value : {Var(a.value()), tape.constant(a.value())}) {
    q.gradient = Tensor();
    tape.backward(mean(mul(affine(tape.leaf(q), 5, 0), value)));
    CHECK(q.gradient.to_vector() == Numbers{30});
  }
  CHECK(p.gradient.to_vector() == Numbers{3});
}

// Recordings are numbered by their Context, so another's may have the same number.
TEST_CASE("tape over time: a variable of another Context's tape is refused where that tape was") {
  const Context contexts[] = {test_context(), test_context()};
  std::optional<Tape> tape(std::in_place, contexts[0]);
  const Var old = tape->variable(numbers(contexts[0], {2}));
  tape.emplace(contexts[1]);
  const Var x = tape->variable(numbers(contexts[1], {3}));
  REQUIRE(old.tape() == x.tape());
  CHECK_THROWS_AS(square(old), UsageError);
  CHECK_THROWS_AS(tape->vjp({old}, {numbers(contexts[0], {1})}, {old}), UsageError);
}

TEST_CASE("tape over time: vjp and backward refuse what is of before the last backward") {
  const Context context = test_context();
  const Tensor seed = numbers(context, {1});
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {2})), y = square(x), loss = sum(y);
  const Var constant = tape.constant(numbers(context, {7}));
  tape.backward(loss);
  check_refused<UsageError>(kStale, [&] { tape.backward(loss); });
  check_refused<UsageError>(kStale, [&] { tape.vjp({y}, {seed}, {x}); });
  const Var z = tape.variable(numbers(context, {3}));
  check_refused<UsageError>(kStale, [&] { tape.vjp({y}, {seed}, {z}); });
  check_refused<UsageError>(kStale, [&] { tape.vjp({square(z)}, {seed}, {x}); });
  // A constant has no history to lose.
  CHECK(tape.vjp({mul(z, constant)}, {seed}, {z})[0].to_vector() == Numbers{7});
}

// h = w h + x: the history of h ends where its value is carried on.
TEST_CASE("tape over time: truncated backpropagation") {
  const Context context = test_context();
  Parameter w = parameter(context, "w", 2);
  Tape tape(context);
  Var h = tape.constant(numbers(context, {1}));
  const auto step = [&](const Var& before) { return affine(mul(tape.leaf(w), before), 1, 1); };
  for (const real expected : {1, 3, 7}) {  // the value carried in
    w.gradient = Tensor();
    h = step(h);
    tape.backward(sum(h));
    CHECK(w.gradient.to_vector() == Numbers{expected});
    check_refused<UsageError>(kStale, [&] { step(h); });
    h = tape.constant(h.value());
  }
}

// The same with a tape a step, each of which lies where the last one did.
TEST_CASE("tape over time: a variable of a tape that is gone is refused by the next in its place") {
  const Context context = test_context();
  Parameter w = parameter(context, "w", 2);
  std::optional<Tape> tape(context);
  const Var h = square(tape->leaf(w));
  tape->backward(sum(h));
  tape.emplace(context);
  const Var x = tape->leaf(w);
  check_refused<UsageError>(kStale, [&] { mul(x, h); });
}

TEST_CASE("tape over time: numbers of a thousand ops ago are not looked up") {
  const Context context = test_context();
  Parameter p = parameter(context, "p", 1);
  Tape tape(context);
  Var x = tape.leaf(p);
  for (int i = 0; i < 1000; ++i) x = affine(x, 1, 0);
  tape.backward(sum(x));
  CHECK(p.gradient.to_vector() == Numbers{1});
  const Var y = tape.leaf(p);
  check_refused<UsageError>(kStale, [&] { add(x, y); });
  check_refused<UsageError>(kStale, [&] { tape.vjp({y}, {p.value}, {x}); });
}

TEST_CASE("tape over time: a gradient that throws leaves an empty tape and the gradients alone") {
  const Context context = test_context();
  Parameter p = parameter(context, "p", 2);
  Tape tape(context);
  const Var x = square(tape.leaf(p));
  const Var loss = sum(record("thrower", {x}, clone(x.value()),
                              [](Backward&) { throw std::runtime_error("no gradient"); }));
  // What is refused beforehand costs nothing.
  check_refused<ShapeError>(
      "one element", [&] { tape.backward(add(tape.leaf(p), broadcast_to(tape.leaf(p), {2}))); });
  CHECK_THROWS_AS(tape.backward(loss), std::runtime_error);
  CHECK(!p.gradient.defined());
  check_refused<UsageError>(kStale, [&] { tape.backward(loss); });
  tape.backward(sum(square(tape.leaf(p))));
  CHECK(p.gradient.to_vector() == Numbers{4});
}

// A closure that holds a Var of the tape instead of its value records while the tape is walked.
TEST_CASE("tape over time: a tape may grow while it is asked") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {3}));
  Var y = x;
  for (int i = 0; i < 50; ++i)
    y = record("double", {y}, affine(y.value(), 2, 0).value(), [x](Backward& back) {
      for (int grown = 0; grown < 20; ++grown) affine(x, 1, 0);
      back.accumulate(0, affine(back.output(), 2, 0).value());
    });
  const double expected = std::exp2(50);
  CHECK(tape.vjp({y}, {numbers(context, {1})}, {x})[0].to_vector() == Numbers{real(expected)});
}

TEST_CASE("tape: inputs and outputs that an op has not are refused") {
  const Context context = test_context();
  const Tensor one = numbers(context, {1});
  Tape tape(context);
  const Var x = tape.variable(one);
  const auto gradient = [&](const std::function<void(Backward&)>& ask) {
    const Var y = record("asks", {x, Var()}, clone(one), ask);
    tape.vjp({y}, {one}, {x});
  };
  for (const int wrong : {-1, 2, 1 << 30}) {
    check_refused<UsageError>("input",
                              [&] { gradient([&](Backward& b) { b.accumulate(wrong, one); }); });
    check_refused<UsageError>("input", [&] { gradient([&](Backward& b) { b.wants(wrong); }); });
    check_refused<UsageError>("input", [&] { gradient([&](Backward& b) { b.given(wrong); }); });
  }
  for (const int wrong : {-1, 1, 1 << 30}) {
    check_refused<UsageError>("output", [&] { gradient([&](Backward& b) { b.has(wrong); }); });
    check_refused<UsageError>("output", [&] { gradient([&](Backward& b) { b.output(wrong); }); });
  }
  gradient([&](Backward& back) {
    CHECK((back.wants(0) && !back.wants(1) && !back.given(0).defined() && back.has()));
    back.accumulate(1, one);  // nobody asked
  });
  check_refused<UsageError>("[none] an op must have an output",
                            [&] { record_all("none", {x}, {}, [](Backward&) {}); });
}

TEST_CASE("tape: an undefined cotangent is none") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(full(context, Shape{}, 2));
  const Var y =
      record("gives", {x}, clone(x.value()), [](Backward& back) { back.accumulate(0, {}); });
  check_refused<UsageError>("[tape]", [&] { tape.vjp({y}, {full(context, {}, 1)}, {x}); });
  check_refused<UsageError>("[tape]", [&] { tape.vjp({y}, {Tensor()}, {x}); });
}

TEST_CASE("tape: what has no tape is a constant to vjp") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(numbers(context, {1, 2}));
  const Tensor seed = numbers(context, {3, 4});
  CHECK(tape.vjp({Var(seed)}, {seed}, {x})[0].to_vector() == Numbers{0, 0});
  CHECK(tape.vjp({Var(seed), x}, {seed, seed}, {x})[0].to_vector() == Numbers{3, 4});
}

// f depends on nothing that is recorded.
TEST_CASE("fixed point: a step that returns a constant has a gradient of zero") {
  const Context context = test_context();
  const Shape shape{1, 2, 1};
  const Tensor constant(context, shape, Numbers{5, 6});
  const Step step = [&](const Var&, const std::vector<Var>&) { return Evaluated<Var>(constant); };
  const Solve solve = [](const Map& f, const Tensor& start) {
    return picard(f, start, {.max_iterations = 10});
  };
  for (const char* rule : {"one-step", "neumann:2", "exact"}) {
    Tape tape(context);
    const Var x = tape.variable(full(context, shape, 1));
    const auto result =
        fixed_point(step, {x}, zeros(context, shape), solve, {.gradient = gradient_named(rule)});
    CHECK(result.y.value().to_vector() == Numbers{5, 6});
    CHECK(tape.vjp({result.y}, {constant}, {x})[0].to_vector() == Numbers{0, 0});
  }
}

TEST_CASE("tape: gradients of nothing have no elements") {
  const Context context = test_context();
  Tape tape(context);
  const Var x = tape.variable(zeros(context, {0, 3})), w = tape.variable(zeros(context, {2, 3}));
  const Var y = linear(tanh(mul(x, x)), w);
  const auto gradients = tape.vjp({sum(y)}, {full(context, {}, 1)}, {x, w});
  CHECK(gradients[0].shape() == Shape{0, 3});
  CHECK(gradients[1].to_vector() == Numbers(6, 0));
}

}  // namespace fprnn::tests
