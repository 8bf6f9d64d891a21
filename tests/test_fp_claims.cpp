// What the paper (arXiv 2503.10799) claims of its fixed points, recomputed from the layers' parameters with
// public ops: the dense recurrence, the contraction, the diagonal special case, the random cap and
// training.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/adamw.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/fp_rnn.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/reduce.h>
#include <fprnn/ops/scan.h>
#include <fprnn/ops/selective_scan.h>

#include <cmath>
#include <numeric>

#include "close.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kWidth = 8, kInner = 16, kBatch = 3, kTime = 7;
constexpr double kClaim = kDouble ? 1e-10 : 1e-4;
constexpr Solver kSolvers[] = {Solver::sequential, Solver::parallel};

SolverOptions tight(Solver solver) {
  return {.solver = solver,
          .tolerance = kDouble ? real(1e-13) : real(1e-6),
          .unconverged = Unconverged::accept};
}

// A layer, its parameters moved by up to 0.1, so that no bias is zero and no weight one.
template <class Model>
struct Built {
  Context context = test_context();
  Rng rng{.seed = 3, .stream = 0};
  Root root = {};
  Model layer;
  Tensor u;

  template <class Options>
  explicit Built(const Options& options) : layer(root, "layer", {context, rng}, options) {
    uint64_t stream = 500;
    for (const auto& [path, parameter] : layer.parameters())
      parameter->value =
          add(parameter->value, random(context, parameter->value.shape(), stream++, real(0.1)))
              .value();
    Rng inputs{.seed = 5, .stream = 0};
    u = normal(context, {kBatch, kTime, kWidth}, 0, 1, inputs);
  }
  Var weight(const std::string& path) { return layer.parameter(path).value; }
};

// What an FP-RNN without convolutions and hidden dependence has in its loop, from its parameters.
struct Loop {
  Root root = {};
  Rng rng = {};
  std::unique_ptr<Mixer> mixer;
  Var x, bx, lambda;

  Loop(Built<FpRnn>& built, const FpRnnOptions& options)
      : mixer(make_mixer(root, "mixer", {built.context, rng},
                         {.kind = options.mixer,
                          .channels = kInner,
                          .parameters = kInner,
                          .rank = options.rank,
                          .scale = options.scale,
                          .norm = options.kronecker_norm,
                          .eps = options.eps})) {
    for (const auto& [path, parameter] : mixer->parameters())
      parameter->value = built.weight("mixer." + path).value();
    x = slice(linear(built.u, built.weight("input_trans.weight")), -1, 0, kInner);
    bx = mul(silu(linear(x, built.weight("b_proj.weight"))), x);
    lambda =
        sigmoid(linear(x, built.weight("lambda_proj.weight"), built.weight("lambda_proj.bias")));
  }
  // Q_t v_t at every step.
  Var q(const Var& v) { return mixer->forward(x, v); }
  // Equation 7.
  Var map(const Var& h) {
    const Var mixed = add(q(sub(bx, h)), h);
    return scan(lambda, mul(affine(lambda, -1, 1), mixed));
  }
};

// The solution of matrix z = right by elimination with row pivots; the matrix is row-major, n x n.
std::vector<double> solve_dense(std::vector<double> matrix, std::vector<double> right) {
  const size_t n = right.size();
  for (size_t k = 0; k < n; ++k) {
    size_t pivot = k;
    for (size_t i = k; i < n; ++i)
      if (std::abs(matrix[i * n + k]) > std::abs(matrix[pivot * n + k])) pivot = i;
    for (size_t j = 0; j < n; ++j) std::swap(matrix[k * n + j], matrix[pivot * n + j]);
    std::swap(right[k], right[pivot]);
    for (size_t i = k + 1; i < n; ++i) {
      const double factor = matrix[i * n + k] / matrix[k * n + k];
      for (size_t j = k; j < n; ++j) matrix[i * n + j] -= factor * matrix[k * n + j];
      right[i] -= factor * right[k];
    }
  }
  for (size_t k = n; k-- > 0;) {
    for (size_t j = k + 1; j < n; ++j) right[k] -= matrix[k * n + j] * right[j];
    right[k] /= matrix[k * n + k];
  }
  return right;
}

// The explicit dense recurrence. h = L h_{t-1} + (I - L)(Q b.x + (I - Q) h) is, as I - (I - L)(I - Q) = L (I
// + (L^-1 - I) Q), the same as (I + (L^-1 - I) Q) h = h_{t-1} + (L^-1 - I) Q b.x.
std::vector<double> dense_recurrence(Loop& loop, const Context& context) {
  constexpr auto D = static_cast<size_t>(kInner);
  std::vector<std::vector<real>> columns;  // Q_t e_j for all tokens
  for (size_t j = 0; j < D; ++j) {
    std::vector<real> unit(D);
    unit[j] = 1;
    const Tensor e(context, {kInner}, unit);
    columns.push_back(loop.q(broadcast_to(e, loop.x.shape())).value().to_vector());
  }
  const auto bx = loop.bx.value().to_vector(), lambda = loop.lambda.value().to_vector();
  std::vector<double> all;
  for (size_t b = 0; b < kBatch; ++b) {
    std::vector<double> h(D);
    for (size_t t = 0; t < kTime; ++t) {
      const size_t at = (b * kTime + t) * D;
      std::vector<double> matrix(D * D), right = h;
      for (size_t i = 0; i < D; ++i)
        for (size_t j = 0; j < D; ++j) {
          const double gated = (1.0 / lambda[at + i] - 1) * columns[j][at + i];
          matrix[i * D + j] = gated + (i == j ? 1 : 0);
          right[i] += gated * bx[at + j];
        }
      h = solve_dense(matrix, right);
      all.insert(all.end(), h.begin(), h.end());
    }
  }
  return all;
}

FpRnnOptions linear_rnn(MixerKind kind, int64_t rank, real scale) {
  return {
      .d_model = kWidth, .mixer = kind, .rank = rank, .scale = scale, .hidden_dependence = false};
}

}  // namespace

TEST_CASE("fp layers: a fixed point of linear channel mixing is a dense recurrence") {
  for (const FpRnnOptions& options :
       {linear_rnn(MixerKind::householder, 1, 1), linear_rnn(MixerKind::householder, 3, 1),
        linear_rnn(MixerKind::dplr, 2, 1), linear_rnn(MixerKind::kronecker, 1, 1)}) {
    Built<FpRnn> built(options);
    Loop loop(built, options);
    const std::vector<double> dense = dense_recurrence(loop, built.context);
    CHECK(length(dense) > 1);
    for (const Solver solver : kSolvers) {
      built.layer.solver = tight(solver);
      built.layer.forward(built.u);
      check_close(fmt::format("{} {}, {}", name_of(options.mixer), options.rank, name_of(solver)),
                  built.layer.solution().to_vector(), dense, kClaim);
    }
  }
}

// Theorem 3.1.
TEST_CASE("fp layers: a contraction is bounded and forgets where it starts") {
  constexpr int kIterations = 300;
  constexpr double kGrowth = 2;  // of an iterate over the start and what drives it
  const FpRnnOptions options = linear_rnn(MixerKind::householder, 1, 1);
  Built<FpRnn> built(options);
  Loop loop(built, options);
  built.layer.solver = tight(Solver::parallel);
  built.layer.forward(built.u);
  const auto expected = built.layer.solution().to_vector();
  const double driven = max_abs(loop.bx.value());
  for (const real size : {real(0), real(1), real(-1e3), real(1e6)}) {
    Var h = affine(random(built.context, loop.x.shape(), 9), size, size / 2);
    const double bound = kGrowth * (max_abs(h.value()) + driven);
    double largest = 0;
    for (int l = 0; l < kIterations; ++l) {
      h = loop.map(h);
      largest = std::max<double>(largest, max_abs(h.value()));
    }
    CHECK_MESSAGE(largest <= bound, "from " << size << ": " << largest << " > " << bound);
    check_close(fmt::format("from {}", size), h.value().to_vector(), expected, kClaim);
  }
}

// A scale of 0 makes Q the identity: one application of f from anywhere is the fixed point.
TEST_CASE("fp layers: without channel mixing and dependence FP-Mamba is Mamba's scan, normalised") {
  for (const bool bc_norm : {true, false}) {
    const FpMambaOptions options{.d_model = kWidth,
                                 .d_state = 4,
                                 .scale = 0,
                                 .dependence = {false, false, false, false},
                                 .bc_norm = bc_norm};
    Built<FpMamba> built(options);
    const Var x = slice(linear(built.u, built.weight("in_proj.weight")), -1, 0, kInner);
    const Var low = linear(x, built.weight("x_proj.weight"));  // of sizes 1, 4 and 4
    const auto normalised = [&](const Var& v) {
      return bc_norm ? l2_normalize(v, options.eps) : v;
    };
    const Var scanned =
        selective_scan({.u = x,
                        .delta = linear(slice(low, -1, 0, 1), built.weight("dt_proj.weight")),
                        .a = affine(exp(built.weight("A_log")), -1, 0),
                        .b = normalised(slice(low, -1, 1, 5)),
                        .c = normalised(slice(low, -1, 5, 9)),
                        .skip = built.weight("D"),
                        .delta_bias = built.weight("dt_proj.bias")})
            .y;
    const Var expected = layer_norm(scanned, built.weight("out_norm.weight"),
                                    built.weight("out_norm.bias"), options.eps);
    for (const Solver solver : kSolvers)
      for (const int64_t cap : {1, 1000}) {
        built.layer.solver = tight(solver);
        built.layer.solver.max_iterations = cap;
        built.layer.forward(built.u);
        check_close(fmt::format("{}, cap {}", name_of(solver), cap),
                    built.layer.solution().to_vector(), expected.value().to_vector(), kClaim);
        CHECK(built.layer.report().unconverged() == 0);
        CHECK(built.layer.report().max_iterations() <= 2);
      }
  }
}

TEST_CASE("fp layers: the cap on iterations is drawn from Gamma(4, 1), rounded up") {
  constexpr int kDraws = 20000;
  constexpr double kMean = 4.5;       // rounding up adds a half
  constexpr double kMeanError = .06;  // four standard errors
  const auto draw = [&](uint64_t seed) {
    Rng rng{.seed = seed, .stream = 0};
    std::vector<int64_t> caps(kDraws);
    for (int64_t& cap : caps) cap = draw_iteration_cap(4, 1, rng);
    return caps;
  };
  const auto caps = draw(1);
  CHECK(*std::ranges::min_element(caps) >= 1);
  const double mean = std::accumulate(caps.begin(), caps.end(), 0.0) / kDraws;
  CHECK_MESSAGE(std::abs(mean - kMean) <= kMeanError, mean);
  CHECK(draw(1) == caps);
  CHECK(draw(2) != caps);
  Rng rng;
  CHECK_THROWS_AS(draw_iteration_cap(0, 1, rng), ValueError);
  CHECK_THROWS_AS(draw_iteration_cap(4, 0, rng), ValueError);
  CHECK_THROWS_AS(draw_iteration_cap(4, std::nan(""), rng), ValueError);
}

TEST_CASE("fp layers: FP-Mamba trains") {
  constexpr int kSteps = 30;
  constexpr double kRate = 0.02, kDrop = 3;
  for (const MixerKind kind : {MixerKind::householder, MixerKind::kronecker})
    for (const Solver solver : kSolvers) {
      Built<FpMamba> built(
          FpMambaOptions{.d_model = kWidth, .d_state = 4, .mixer = kind, .scale = 1});
      built.layer.solver = tight(solver);
      built.layer.solver.tolerance = real(1e-4);
      const Tensor wanted = random(built.context, built.u.shape(), 7);
      AdamW optimiser(built.layer.parameters(), {});
      double first = 0, last = 0;
      for (int step = 0; step <= kSteps; ++step) {
        Tape tape(built.context);
        const Var out = built.layer.forward(tape.constant(built.u));
        const Var loss = mean(square(sub(out, wanted)));
        last = loss.value().to_vector().front();
        if (step == 0) first = last;
        tape.backward(loss);
        optimiser.step(kRate);
      }
      INFO(name_of(kind), ", ", name_of(solver), ": ", first, " to ", last);
      CHECK(last < first / kDrop);
    }
}

namespace {

// What is thrown says what was wrong with which value.
template <class Expected, class Call>
void check_refused(const Call& call, const std::string& got) {
  try {
    call();
    FAIL_CHECK("nothing was thrown for " << got);
  } catch (const Expected& error) {
    const std::string text = error.what();
    CHECK_MESSAGE(text.find("got " + got) != std::string::npos, text << " does not name " << got);
  }
}

template <class Model, class Options, class Change>
void check_option(const Change& change, const std::string& got) {
  Options options;
  options.d_model = kWidth;
  change(options);
  check_refused<ValueError>([&] { Built<Model>{options}; }, got);
}

template <class Model, class Options>
void check_common_misuse() {
  const auto check = [](const auto& change, const std::string& got) {
    check_option<Model, Options>(change, got);
  };
  check([](auto& o) { o.d_model = 0; }, "0");
  check([](auto& o) { o.expand = 0; }, "0");
  check([](auto& o) { o.layers = 0; }, "0");
  check([](auto& o) { o.conv_width = -1; }, "-1");
  check([](auto& o) { o.rank = 0; }, "0 and 16");
  check([](auto& o) { o.rank = kInner + 1; }, "17 and 16");
  check([](auto& o) { o.scale = -1; }, "-1");
  check([](auto& o) { o.scale = 3; }, "3");
  check([](auto& o) { o.scale = static_cast<real>(std::nan("")); }, "nan");
  check([](auto& o) { o.eps = 0; }, "0");
  Built<Model> built(Options{.d_model = kWidth});
  const auto narrow = [&] { built.layer.forward(zeros(built.context, {2, 3, 5})); };
  check_refused<ShapeError>(narrow, "(2, 3, 5) and 8");
}

}  // namespace

TEST_CASE("fp layers: options and inputs out of range are refused by their value") {
  check_common_misuse<FpMamba, FpMambaOptions>();
  check_common_misuse<FpRnn, FpRnnOptions>();
  check_option<FpMamba, FpMambaOptions>([](auto& o) { o.dt_rank = -1; }, "-1");
  check_option<FpMamba, FpMambaOptions>([](auto& o) { o.d_state = 0; }, "0");
  check_refused<ValueError>([] { hidden_dependence_named("q,x"); }, "'q,x'");
  check_refused<ValueError>([] { solver_named("x"); }, "'x'");
}

}  // namespace fprnn::tests
