// The GPU against the CPU, op by op, and what a Context of a GPU promises. Layers and training are in
// test_cuda_layers.cpp, tensors beyond 2^31 elements in test_cuda_large.cpp.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/core/graph.h>
#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/delta_rule.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/gated_norm.h>
#include <fprnn/ops/linear.h>

#include <cmath>
#include <limits>

#include "close.h"
#include "needs.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr real kNan = std::numeric_limits<real>::quiet_NaN();
constexpr int64_t kSizes[] = {0, 1, 3, 4, 31, 33, 1025, 8192, 8193, 100'003};

void check_usable(const Context& context) {
  CHECK_NOTHROW(context.synchronise());
  const Tensor x = full(context, {3, 5}, 2);
  CHECK(square(x).value().to_vector() == std::vector<real>(15, 4));
}

}  // namespace

// Both are within the case's tolerance of the truth, hence within twice that of each other. In double
// the gradients' is that of the differences; what the devices differ by is rounding.
TEST_CASE("cuda: every op of the table gives what the CPU gives" * needs_gpu()) {
  const Context gpu = test_context(), cpu = host_context();
  for (const OpCase& entry : op_table().cases) {
    const Values inputs = draw_inputs(entry);
    const Result there = run_case(gpu, entry, inputs), here = run_case(cpu, entry, inputs);
    CHECK(there.unchanged);
    REQUIRE(there.outputs.size() == here.outputs.size());
    for (size_t i = 0; i < here.outputs.size(); ++i)
      check_close(fmt::format("{}, output {}", name_of(entry), i), there.outputs[i],
                  here.outputs[i], 2 * entry.forward_tolerance);
    const double tolerance = kDouble ? 1e-11 : 2 * entry.gradient_tolerance;
    for (size_t i = 0; i < here.gradients.size(); ++i)
      check_close(fmt::format("{}, gradient {}", name_of(entry), i), there.gradients[i],
                  here.gradients[i], tolerance, entry.gradient_floor);
  }
}

TEST_CASE("cuda: an op gives the same bits each time" * needs_gpu()) {
  const Context contexts[] = {test_context(), test_context()};
  for (const OpCase& entry : op_table().cases) {
    const Values inputs = draw_inputs(entry);
    const Result first = run_case(contexts[0], entry, inputs);
    for (const Context& context : contexts) {
      const Result again = run_case(context, entry, inputs);
      CHECK_MESSAGE(same_bits(again.outputs, first.outputs), name_of(entry));
      CHECK_MESSAGE(same_bits(again.gradients, first.gradients), name_of(entry) << ", gradients");
    }
  }
}

// Scales that are powers of two, so that nothing is rounded on the way.
TEST_CASE("cuda: random words and uniform numbers have the bits of the CPU" * needs_gpu()) {
  const Context gpu = test_context(), cpu = host_context();
  for (const int64_t size : kSizes)
    for (const auto& [low, high] : {std::pair{0, 1}, {-1, 1}, {-2, 2}}) {
      Rng there{.seed = 7, .stream = 5}, here = there;
      CHECK(same_bits(uniform(gpu, {size}, low, high, there).to_vector(),
                      uniform(cpu, {size}, low, high, here).to_vector()));
      CHECK(there.stream == here.stream);
    }
  Rng there{.seed = 7}, here{.seed = 7};
  check_close("normal", normal(gpu, {100'003}, 1, 2, there).to_vector(),
              normal(cpu, {100'003}, 1, 2, here).to_vector(), kDouble ? 1e-14 : 1e-7);
}

TEST_CASE("cuda: sums of squares and largest magnitudes are those of the CPU" * needs_gpu()) {
  const Context gpu = test_context(), cpu = host_context();
  for (const int64_t size : kSizes) {
    const Tensor here = random(cpu, {size}, 1, 3), there = here.on(gpu);
    CHECK(std::abs(sum_of_squares(there) - sum_of_squares(here)) <= 1e-13 * sum_of_squares(here));
    CHECK(max_abs(there) == max_abs(here));
    for (const int64_t at : {int64_t{0}, size / 2, size - 1}) {
      if (at < 0 || size == 0) continue;
      const real kept = exchange_element(there, at, kNan);
      CHECK(std::isnan(max_abs(there)));
      CHECK(std::isnan(sum_of_squares(there)));
      exchange_element(there, at, kept);
    }
  }
}

// Few different values, so that the largest is there more than once.
TEST_CASE("cuda: the place of the largest is the CPU's" * needs_gpu()) {
  const Context gpu = test_context(), cpu = host_context();
  for (const int64_t V : {1, 2, 7, 32, 61, 500, 5000}) {
    std::vector<real> x(20 * V);
    for (size_t i = 0; i < x.size(); ++i) x[i] = real(Rng{3}.below(i, 9)) - 4;
    x[3 * V + V / 2] = kNan;
    x[5 * V] = std::numeric_limits<real>::infinity();
    const Shape shape{4, 5, V};
    const auto places = argmax(Tensor(gpu, shape, x)).to_vector();
    CHECK(places == argmax(Tensor(cpu, shape, x)).to_vector());
    CHECK(places[3] == -1);
    CHECK(places[5] == 0);
  }
}

TEST_CASE("cuda: whole numbers are filled and raised as on the CPU" * needs_gpu()) {
  const Context gpu = test_context();
  for (const int64_t size : kSizes) {
    std::vector<int32_t> x(size), y(size);
    for (int64_t i = 0; i < size; ++i)
      x[i] = int32_t(Rng{1}.below(i, 100)), y[i] = int32_t(Rng{2}.below(i, 100));
    const IntTensor a(gpu, {size}, x), b(gpu, {size}, y);
    raise_to(a, b);
    for (int64_t i = 0; i < size; ++i) x[i] = std::max(x[i], y[i]);
    CHECK(a.to_vector() == x);
    CHECK(b.to_vector() == y);
    CHECK(int_zeros(gpu, {size}).to_vector() == std::vector<int32_t>(size));
  }
}

TEST_CASE("cuda: tensors go from device to device and back with all bits" * needs_gpu()) {
  const Context gpu = test_context(), other = test_context(), cpu = host_context();
  std::vector<real> values = random(cpu, {1000}, 1).to_vector();
  values[3] = kNan, values[4] = real(-0.0);
  const Tensor x(cpu, {10, 100}, values);
  const Tensor there = x.on(gpu);
  CHECK(there.shape() == x.shape());
  CHECK(there.on(gpu).data() == there.data());
  CHECK(same_bits(there.on(other).on(cpu).to_vector(), values));
  CHECK_THROWS_AS(add(there, x), UsageError);
  CHECK(describe(gpu).rfind("cuda, ", 0) == 0);
}

// The CPU throws on the spot, a GPU when it is waited for; either way nothing is broken afterwards.
TEST_CASE("cuda: wrong values are thrown when waited for and do no harm" * needs_gpu()) {
  const Context context = test_context();
  const Tensor table = random(context, {7, 5}, 1), logits = random(context, {3, 7}, 2);
  const auto ints = [&](const std::vector<int32_t>& values) {
    return IntTensor(context, {3}, values);
  };
  const Tensor ones = full(context, {3}, 1);
  const auto loss = [&](const std::vector<int32_t>& targets, const Tensor& mask) {
    return masked_cross_entropy(logits, ints(targets), mask);
  };
  for (int round = 0; round < 2; ++round) {
    for (const int32_t wrong : {-1, 7, std::numeric_limits<int32_t>::min()}) {
      check_refused<ValueError>(fmt::format("got {}, 1 and 7", wrong), [&] {
        embedding(table, ints({0, wrong, 6}));
        context.synchronise();
      });
      check_usable(context);
      check_refused<ValueError>(fmt::format("got {}, 2 and 7", wrong), [&] {
        loss({0, 6, wrong}, ones).value().to_vector();
      });
      check_usable(context);
    }
    check_refused<ValueError>("sum must be positive", [&] {
      loss({0, 1, 2}, zeros(context, {3}));
      context.synchronise();
    });
    check_usable(context);
    CHECK(std::isfinite(loss({0, 1, 2}, ones).value().to_vector()[0]));
    const Tensor last(context, {3}, std::vector<real>{1, 1, 0});
    CHECK_NOTHROW(loss({0, 1, -5}, last).value().to_vector());
  }
}

TEST_CASE("cuda: more memory than there is, is refused and leaves the rest usable" * needs_gpu()) {
  const Context context = test_context();
  const Tensor kept = full(context, {1000}, 3);
  for (const int power : {45, 50, 59})
    CHECK_THROWS_AS(Tensor(context, {int64_t{1} << power}), MemoryError);
  CHECK(kept.to_vector() == std::vector<real>(1000, 3));
  check_usable(context);
  const Context limited = context_with(1, 1 << 20);
  CHECK_THROWS_AS(Tensor(limited, {1 << 20}), MemoryError);
  check_usable(limited);
}

// Of a build without CUDA too.
TEST_CASE("cuda: where there is no GPU a Context of one is refused") {
  if (gpu_is_there())
    CHECK(Context::cuda().device() == DeviceKind::cuda);
  else
    check_refused<DeviceError>("[context] ", [] { Context::cuda(); });
  CHECK_THROWS_AS(Context::cuda({.threads = -1}), ValueError);
  CHECK_THROWS_AS(Context::cuda({.byte_limit = -1}), ValueError);
}

TEST_CASE("cuda: a recorded graph does again what it recorded" * needs_gpu()) {
  const Context context = test_context();
  const Tensor x = full(context, {1000}, 2);
  Tensor y;
  const auto graph = capture_graph(context, [&] { y = add(square(x), x).value(); });
  REQUIRE(graph != nullptr);
  std::vector<Tensor> others;  // which must not get the graph's memory
  for (const real value : {real(2), real(3), real(-4)}) {
    copy(full(context, {1000}, value), x);
    graph->replay();
    others.push_back(full(context, {1000}, 9));
    CHECK(y.to_vector() == std::vector<real>(1000, value * value + value));
  }
}

TEST_CASE("cuda: what waits cannot be recorded, and nothing is broken by trying" * needs_gpu()) {
  const Context context = test_context();
  const Tensor x = full(context, {1000}, 2);
  const auto refused = [&](const std::function<void()>& work) {
    CHECK_THROWS_AS(capture_graph(context, work), UsageError);
    check_usable(context);
  };
  refused([&] { square(x).value().to_vector(); });
  refused([&] { context.synchronise(); });
  refused([&] { Tensor(context, {1}, std::vector<real>{1}); });
  refused([&] { capture_graph(context, [] {}); });
}

TEST_CASE("cuda: products in tf32 and bf16 are near, and not those in fp32" * needs_gpu() *
          needs_float()) {
  const Context exact = test_context();
  const Tensor a = random(exact, {70, 130}, 1), b = random(exact, {130, 90}, 2);
  const auto truth = matmul(a, b).value().to_vector();
  for (const auto& [precision, most] :
       {std::pair{MatmulPrecision::tf32, 1e-3}, {MatmulPrecision::bf16, 1e-2}}) {
    ContextOptions options = test_options();
    options.matmul_precision = precision;
    const Context context = device_context(options);
    const auto product = matmul(a.on(context), b.on(context)).value().to_vector();
    check_close(describe(precision), product, truth, most);
    CHECK(relative_error(product, truth) > 1e-5);
  }
}

TEST_CASE("cuda: the delta rule in bf16 is near, and not that in fp32" * needs_gpu() *
          needs_float()) {
  const Context exact = test_context();
  ContextOptions options = test_options();
  options.matmul_precision = MatmulPrecision::bf16;
  const Context rounded = device_context(options);
  constexpr int64_t B = 2, T = 75, H = 2, HV = 4;
  for (const auto& [K, V] : {std::pair<int64_t, int64_t>{128, 128}, {64, 36}, {17, 7}})
    for (const int64_t n : {1, 3}) {
      const Tensor q = random(exact, {B, T, H, K}, 1),
                   k = random(exact, {B, T, n, H, K}, 2, real(1) / std::sqrt(real(K))),
                   v = random(exact, {B, T, n, HV, V}, 3), beta = random(exact, {B, T, n, HV}, 4),
                   g = random(exact, {B, T, HV}, 5), state = random(exact, {B, HV, K, V}, 6);
      const auto results = [&](const Context& context) {
        const auto [o, last] =
            delta_rule({.q = q.on(context),
                        .k = k.on(context),
                        .v = v.on(context),
                        .beta = sigmoid(beta.on(context)),
                        .g = mul(softplus(g.on(context)), full(context, {B, T, HV}, -1)),
                        .state = state.on(context)});
        return Values{o.value().to_vector(), last.value().to_vector()};
      };
      const Values truth = results(exact), found = results(rounded);
      for (size_t i = 0; i < truth.size(); ++i) {
        check_close(fmt::format("d_k {}, n {}, value {}", K, n, i), found[i], truth[i], 2e-2);
        CHECK(relative_error(found[i], truth[i]) > 1e-5);
      }
    }
}

TEST_CASE("cuda: a gated norm says how far it is from what was before" * needs_gpu()) {
  const Context context = test_context();
  constexpr int64_t kRows = 7;
  for (const int64_t D : {1, 5, 64, 256, 1028, 4096})
    for (const bool gated : {false, true}) {
      const Shape shape{kRows, D};
      const Tensor x = random(context, shape, 1), weight = random(context, {D}, 2),
                   bias = random(context, {D}, 3), before = random(context, shape, 4);
      const Var z = gated ? Var(random(context, shape, 5)) : Var();
      const auto [y, residual] = gated_norm_beside(before, x, z, weight, bias, real(1e-5));
      const auto found = residual.to_vector(), of_y = y.value().to_vector(),
                 of_before = before.to_vector();
      CHECK(of_y == gated_norm(x, z, weight, bias, real(1e-5)).value().to_vector());
      for (int64_t row = 0; row < kRows; ++row) {
        real difference = 0, size = 0;
        for (int64_t i = row * D; i < (row + 1) * D; ++i) {
          difference = std::max(difference, std::abs(of_y[i] - of_before[i]));
          size = std::max(size, std::abs(of_y[i]));
        }
        CHECK(found[row] == doctest::Approx(difference / (size + real(1e-8))).epsilon(1e-6));
      }
    }
}

// Large enough that the weight is turned over before the product with the cotangent; x's gradients add up.
TEST_CASE("cuda: products in tf32 with a large number of rows are near" * needs_gpu() *
          needs_float()) {
  ContextOptions options = test_options();
  options.matmul_precision = MatmulPrecision::tf32;
  const Context exact = test_context(), rounded = device_context(options);
  constexpr int64_t kRows = 4100, kInputs = 1028, kOutputs = 1000;
  const Tensor x = random(exact, {kRows, kInputs}, 1), w = random(exact, {kOutputs, kInputs}, 2);
  const auto gradients = [&](const Context& context) {
    Tape tape(context);
    const std::vector<Var> in{tape.variable(x.on(context)), tape.variable(w.on(context))};
    const Var y = linear(in[0], in[1]);
    const Tensor seed = random(exact, {kRows, kOutputs}, 3).on(context);
    Values values{y.value().to_vector()};
    for (const Tensor& of : tape.vjp({add(y, linear(in[0], in[1]))}, {seed}, in))
      values.push_back(of.to_vector());
    return values;
  };
  const Values truth = gradients(exact), found = gradients(rounded);
  for (size_t i = 0; i < truth.size(); ++i)
    check_close(fmt::format("value {}", i), found[i], truth[i], 1e-3);
}

TEST_CASE("cuda: waiting for each kernel changes no bit" * needs_gpu()) {
  ContextOptions options = test_options();
  options.synchronise = true;
  const Context context = test_context(), waiting = device_context(options);
  const Tensor x = random(context, {33, 65}, 1), w = random(context, {17, 65}, 2);
  CHECK(same_bits(tanh(linear(x, w)).value().to_vector(),
                  tanh(linear(x.on(waiting), w.on(waiting))).value().to_vector()));
}

}  // namespace fprnn::tests
