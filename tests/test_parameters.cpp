// The parameters of modules: their paths, shapes and initial values, and sizes that are refused.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/fp_rnn.h>
#include <fprnn/models/mixer.h>
#include <fprnn/ops/layout.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "close.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

using Lines = std::vector<std::string>;

// A line for each parameter: its path and shape, and "constant" if it does not decay.
Lines listing(Module& module) {
  Lines lines;
  for (const auto& [path, parameter] : module.parameters())
    lines.push_back(path + " " + describe(parameter->value.shape()) +
                    (parameter->decays ? "" : " constant"));
  return lines;
}

Lines mixer_listing(const Context& context, const MixerOptions& options) {
  Rng rng;
  Root root;
  const auto mixer = make_mixer(root, "mixer", {context, rng}, options);
  CHECK(root.parameters()[0].path == "mixer." + mixer->parameters()[0].path);
  return listing(*mixer);
}

// Uniform in +-bound: within it, reaching for it, and centred.
void check_uniform(const std::string& name, const Tensor& values, double bound) {
  INFO(name);
  double mean = 0;
  for (const double value : values.to_vector()) mean += value / double(values.elements());
  const double largest = double(max_abs(values)), count = double(values.elements());
  CHECK(largest <= bound * (1 + 1e-6));
  CHECK(largest > bound * (1 - 10 / count));
  CHECK(std::abs(mean) < 4 * bound / std::sqrt(3 * count));
}

struct RootWith : Module {
  Rng rng{.seed = 7, .stream = 0};
  Init init;
  explicit RootWith(const Context& context) : init{context, rng} {}
};

}  // namespace

TEST_CASE("parameters: a Mamba model's have the authors' names and decay where they should") {
  const Context context = test_context();
  const MambaOptions layer{.d_model = 20, .d_state = 3, .expand = 3, .conv_width = 5};
  const auto model = mamba_model(context, {}, 11, 2, layer);
  Lines expected{"embedding.weight (11, 20)", "norm.weight (20) constant"};
  for (const std::string prefix : {"layers.0.", "layers.1."})
    for (const char* line : {"norm.weight (20) constant", "layer.A_log (60, 3) constant",
                             "layer.D (60) constant", "layer.in_proj.weight (120, 20)",
                             "layer.conv1d.weight (60, 1, 5)", "layer.conv1d.bias (60) constant",
                             "layer.x_proj.weight (8, 60)", "layer.dt_proj.weight (60, 2)",
                             "layer.dt_proj.bias (60) constant", "layer.out_proj.weight (20, 60)"})
      expected.push_back(prefix + line);
  CHECK(listing(*model) == expected);
  int64_t elements = 0;
  for (const auto& [path, parameter] : model->parameters()) {
    elements += parameter->value.elements();
    CHECK(&model->parameter(path) == parameter);
    CHECK(!parameter->gradient.defined());
  }
  CHECK(model->parameter_count() == elements);
}

TEST_CASE("parameters: mixers' have the authors' names") {
  const Context context = test_context();
  const auto low_rank = [](int64_t rank) {
    return Lines{fmt::format("u_proj.parametrizations.weight.original1 ({}, 7)", rank * 12),
                 fmt::format("u_proj.parametrizations.weight.original0 ({}, 1)", rank * 12),
                 fmt::format("alpha_proj.parametrizations.weight.original1 ({}, 7)", rank),
                 fmt::format("alpha_proj.parametrizations.weight.original0 ({}, 1)", rank),
                 fmt::format("alpha_proj.bias ({}) constant", rank)};
  };
  MixerOptions options{.kind = MixerKind::householder, .channels = 12, .parameters = 7};
  CHECK(mixer_listing(context, options) == low_rank(1));
  options.rank = 3;
  CHECK(mixer_listing(context, options) == low_rank(3));
  options.kind = MixerKind::dplr;
  CHECK(mixer_listing(context, options) == low_rank(3));
  options.kind = MixerKind::kronecker;  // 12 = 3 * 4: triangles of 6 and 10, gates of 3 and 4
  CHECK(mixer_listing(context, options) ==
        Lines{"uv_project.parametrizations.weight.original1 (16, 7)",
              "uv_project.parametrizations.weight.original0 (16, 1)",
              "diag.parametrizations.weight.original1 (7, 7)",
              "diag.parametrizations.weight.original0 (7, 1)", "diag.bias (7) constant"});
}

TEST_CASE("parameters: paths that do not exist are refused") {
  const auto model = mamba_model(test_context(), {}, 3, 1, {.d_model = 2});
  for (const char* path : {"", ".", "weight", "embedding", "embedding.", ".embedding.weight",
                           "embedding.weight.", "embedding.Weight", "layers.1.layer.D",
                           "layers.00.layer.D", "layers.0.layer.D ", "layers.0.layer.a_log"})
    CHECK_THROWS_AS(model->parameter(path), ValueError);
}

TEST_CASE("parameters: a Mamba model starts as the specification says") {
  const Context context = test_context();
  const MambaOptions layer{.d_model = 40, .d_state = 7, .expand = 2, .dt_rank = 9, .layers = 4};
  const auto model = mamba_model(context, {.seed = 3}, 50, 4, layer);
  const auto value = [&](const std::string& path) { return model->parameter(path).value; };

  const auto embedding = value("embedding.weight").to_vector();
  double mean = 0, square = 0;
  for (const double x : embedding) {
    mean += x / double(embedding.size());
    square += x * x / double(embedding.size());
  }
  const double count = double(embedding.size());  // four standard deviations of either
  CHECK(std::abs(mean) < 4 * 0.02 / std::sqrt(count));
  CHECK(std::abs(std::sqrt(square) / 0.02 - 1) < 4 / std::sqrt(2 * count));

  for (const std::string prefix : {"layers.0.layer.", "layers.3.layer."}) {
    INFO(prefix);
    check_uniform("in_proj", value(prefix + "in_proj.weight"), 1 / std::sqrt(40.0));
    check_uniform("x_proj", value(prefix + "x_proj.weight"), 1 / std::sqrt(80.0));
    check_uniform("dt_proj", value(prefix + "dt_proj.weight"), 1 / std::sqrt(9.0));
    check_uniform("out_proj", value(prefix + "out_proj.weight"), 1 / std::sqrt(80.0) / 2);
    check_uniform("conv1d", value(prefix + "conv1d.weight"), 1 / std::sqrt(4.0));
    check_uniform("conv1d bias", value(prefix + "conv1d.bias"), 1 / std::sqrt(4.0));
    CHECK(value(prefix + "D").to_vector() == std::vector<real>(80, 1));
    const auto a_log = value(prefix + "A_log").to_vector();
    for (size_t i = 0; i < a_log.size(); ++i)
      CHECK(double(a_log[i]) == doctest::Approx(std::log(double(i % 7 + 1))).epsilon(1e-6));

    std::vector<double> steps;
    for (const double bias : value(prefix + "dt_proj.bias").to_vector())
      steps.push_back(std::log1p(std::exp(bias)));
    std::ranges::sort(steps);
    CHECK(steps.front() >= 1e-4 * (1 - 1e-5));
    CHECK(steps.back() <= 0.1 * (1 + 1e-5));
    // Log-uniform from 0.001 on: half of them below 0.01.
    CHECK(steps.front() >= 1e-3 * (1 - 1e-5));
    CHECK(steps.front() < 2e-3);
    CHECK(steps.back() > 5e-2);
    CHECK((steps[40] > 4e-3 && steps[40] < 2.5e-2));
  }
  for (const char* path : {"norm.weight", "layers.2.norm.weight"})
    CHECK(value(path).to_vector() == std::vector<real>(40, 1));
}

TEST_CASE("parameters: initial values depend on the seed alone, and each is drawn afresh") {
  const auto values = [](int threads, uint64_t seed) {
    return values_of(*mamba_model(context_with(threads), {seed, 0}, 5, 3, {.d_model = 8}));
  };
  const auto first = values(1, 1), other = values(1, 2);
  CHECK(same_bits(first, values(3, 1)));
  std::set<real> firsts;
  int drawn = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    const bool fixed = std::ranges::count(first[i], real(1)) > 0 || first[i][0] == 0;
    CHECK(same_bits(first[i], other[i]) == fixed);
    if (fixed) continue;
    ++drawn;
    firsts.insert(first[i][0]);
  }
  CHECK(drawn == 1 + 3 * 7);
  CHECK(int(firsts.size()) == drawn);
}

TEST_CASE("parameters: weight-normalised maps start as plain ones") {
  RootWith root(test_context());
  WeightNormLinear map(root, "map", root.init, 30, 17, {.bias = true, .shrink = 3});
  CHECK(map.magnitude.value.shape() == Shape{17, 1});
  check_uniform("direction", map.direction.value, 1 / std::sqrt(30.0) / 3);
  const std::vector<real> direction = map.direction.value.to_vector(),
                          magnitude = map.magnitude.value.to_vector();
  for (int64_t row = 0; row < 17; ++row) {
    const auto v = direction.begin() + row * 30;
    CHECK(double(magnitude[row]) ==
          doctest::Approx(length(std::vector<real>(v, v + 30))).epsilon(1e-6));
  }
  CHECK(map.bias->value.to_vector() == std::vector<real>(17, 0));
  CHECK((map.magnitude.decays && map.direction.decays && !map.bias->decays));
  Linear plain(root, "plain", root.init, 30, 17);
  CHECK(plain.bias == nullptr);
  copy(map.direction.value, plain.weight.value);
  const Tensor x = random(root.init.context, {5, 30}, 1);
  check_close("as plain", map.forward(x).value().to_vector(), plain.forward(x).value().to_vector(),
              kDouble ? 1e-14 : 1e-6);
}

TEST_CASE("parameters: sizes out of range are refused") {
  const Context context = test_context();
  for (const MambaOptions& options :
       {MambaOptions{.d_model = 0}, MambaOptions{.d_model = -1}, MambaOptions{.d_state = 0},
        MambaOptions{.expand = 0}, MambaOptions{.expand = -2}, MambaOptions{.dt_rank = -1},
        MambaOptions{.conv_width = 0}, MambaOptions{.layers = 0}}) {
    RootWith root(context);
    CHECK_THROWS_AS(Mamba(root, "mamba", root.init, options), ValueError);
  }
  for (const auto& [vocabulary, layers, d_model] :
       {std::array<int64_t, 3>{0, 1, 4}, {-1, 1, 4}, {3, 0, 4}, {3, -1, 4}, {3, 1, 0}, {3, 1, -4}})
    CHECK_THROWS_AS(mamba_model(context, {}, vocabulary, layers, {.d_model = d_model}), ValueError);
  for (const auto& [inputs, outputs] : {std::pair{0, 3}, {3, 0}, {-1, 3}}) {
    RootWith root(context);
    CHECK_THROWS_AS(Linear(root, "map", root.init, inputs, outputs), ValueError);
    CHECK_THROWS_AS(WeightNormLinear(root, "map", root.init, inputs, outputs), ValueError);
  }
  RootWith root(context);
  CHECK_THROWS_AS(Linear(root, "map", root.init, 3, 3, {.shrink = 0}), ValueError);
}

TEST_CASE("parameters: sizes whose products do not fit 63 bits are refused") {
  const Context context = test_context();
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  RootWith root(context);
  // 2^61 + 2 times 8 is 16 in 64 bits.
  for (const int64_t expand : {kMost, (int64_t{1} << 61) + 2, int64_t{1} << 20}) {
    INFO(expand);
    CHECK_THROWS_AS(Mamba(root, "layer", root.init, {.d_model = 8, .expand = expand}), ValueError);
    CHECK_THROWS_AS(FpMamba(root, "layer", root.init, {.d_model = 8, .expand = expand}),
                    ValueError);
    CHECK_THROWS_AS(FpRnn(root, "layer", root.init, {.d_model = 8, .expand = expand}), ValueError);
  }
  for (const int64_t size : {kMost, kMaxSize + 1}) {
    INFO(size);
    CHECK_THROWS_AS(Mamba(root, "layer", root.init, {.d_model = size}), ValueError);
    CHECK_THROWS_AS(Mamba(root, "layer", root.init, {.d_state = size}), ValueError);
    CHECK_THROWS_AS(Mamba(root, "layer", root.init, {.dt_rank = size}), ValueError);
    CHECK_THROWS_AS(Mamba(root, "layer", root.init, {.conv_width = size}), ValueError);
    CHECK_THROWS_AS(FpMamba(root, "layer", root.init, {.conv_width = size}), ValueError);
    CHECK_THROWS_AS(FpRnn(root, "layer", root.init, {.conv_width = size}), ValueError);
    CHECK_THROWS_AS(mamba_model(context, {}, size, 1, {.d_model = 4}), ValueError);
    CHECK_THROWS_AS(mamba_model(context, {}, 3, size, {.d_model = 4}), ValueError);
    CHECK_THROWS_AS(
        make_mixer(root, "mixer", root.init, {.channels = size, .parameters = 1, .rank = 2}),
        ValueError);
  }
  CHECK_THROWS_AS(mamba_model(context, {}, 3, kMaxLayers + 1, {.d_model = 4}), ValueError);
  CHECK_THROWS_AS(Linear(root, "map", root.init, 3, kMost), ShapeError);
  CHECK_THROWS_AS(Embedding(root, "embedding", root.init, kMost, 3), ShapeError);
  CHECK_THROWS_AS(CausalConv(root, "conv", root.init, kMost, 3), ShapeError);
  CHECK_THROWS_AS(initial_a_log(context, kMost / 2, 3), ShapeError);
  CHECK(root.parameters().empty());
}

TEST_CASE("parameters: solver options out of range are refused when the layer is made") {
  const auto refused = [](const auto& change) {
    SolverOptions solver;
    change(solver);
    RootWith root(test_context());
    CHECK_THROWS_AS(check(solver), ValueError);
    CHECK_THROWS_AS(FpMamba(root, "layer", root.init, {.solver = solver}), ValueError);
    CHECK_THROWS_AS(FpRnn(root, "layer", root.init, {.solver = solver}), ValueError);
  };
  constexpr real kNan = std::numeric_limits<real>::quiet_NaN();
  constexpr real kHuge = std::numeric_limits<real>::infinity();
  for (const real bad : {real(-1), kNan, kHuge}) {
    refused([&](SolverOptions& s) { s.tolerance = bad; });
    refused([&](SolverOptions& s) { s.damping = bad; });
    refused([&](SolverOptions& s) { s.gradient.tolerance = bad; });
    refused([&](SolverOptions& s) { s.patience.threshold = bad; });
    refused([&](SolverOptions& s) { s.patience.quantile = bad; });
  }
  for (const int64_t bad : {int64_t{-1}, int64_t{0}, int64_t{1} << 31}) {
    refused([&](SolverOptions& s) { s.max_iterations = bad; });
    refused([&](SolverOptions& s) { s.gradient.max_iterations = bad; });
  }
  refused([](SolverOptions& s) { s.crossover = -1; });
  refused([](SolverOptions& s) { s.gradient.terms = -1; });
  refused([](SolverOptions& s) { s.patience.patience = 0; });
  check(SolverOptions{});
}

TEST_CASE("mixers: names") {
  for (const MixerKindRow& row : mixer_kinds()) {
    CHECK(mixer_named(row.name) == row.kind);
    CHECK(name_of(row.kind) == row.name);
  }
  CHECK(mixer_named("dplr") == MixerKind::dplr);
  for (const char* name : {"", "Householder", "dplr ", "house", "monarch"})
    CHECK_THROWS_AS(mixer_named(name), ValueError);
}

TEST_CASE("mixers: options out of range and inputs that do not fit are refused") {
  const Context context = test_context();
  const real nan = std::numeric_limits<real>::quiet_NaN();
  for (const MixerKindRow& row : mixer_kinds()) {
    const MixerKind kind = row.kind;
    INFO(row.name);
    const MixerOptions sound{.kind = kind, .channels = 6, .parameters = 4, .rank = 2};
    const auto refused = [&](const auto& change) {
      MixerOptions options = sound;
      change(options);
      RootWith root(context);
      CHECK_THROWS_AS(make_mixer(root, "mixer", root.init, options), ValueError);
    };
    refused([](MixerOptions& o) { o.channels = 0; });
    refused([](MixerOptions& o) { o.parameters = 0; });
    refused([](MixerOptions& o) { o.rank = 0; });
    refused([](MixerOptions& o) { o.rank = 7; });
    refused([](MixerOptions& o) { o.scale = real(-0.1); });
    refused([](MixerOptions& o) { o.scale = real(2.1); });
    refused([&](MixerOptions& o) { o.scale = nan; });

    RootWith root(context);
    const auto mixer = make_mixer(root, "mixer", root.init, sound);
    const auto of = [&](const Shape& shape) { return Var(zeros(context, shape)); };
    CHECK(mixer->forward(of({2, 3, 4}), of({2, 3, 6})).shape() == Shape{2, 3, 6});
    CHECK(mixer->forward(of({4}), of({6})).shape() == Shape{6});
    CHECK_THROWS_AS(mixer->forward(of({2, 3, 5}), of({2, 3, 6})), ShapeError);
    CHECK_THROWS_AS(mixer->forward(of({2, 3, 4}), of({2, 3, 5})), ShapeError);
    CHECK_THROWS_AS(mixer->forward(of({2, 3, 4}), of({2, 2, 6})), ShapeError);
    CHECK_THROWS_AS(mixer->forward(of({2, 3, 4}), of({6})), ShapeError);
    CHECK_THROWS_AS(mixer->forward(of({}), of({6})), ShapeError);
  }
}

TEST_CASE("mixers: without scale Q is the identity, and the same bits come alone and in a batch") {
  const Context context = test_context();
  for (const MixerKindRow& row : mixer_kinds()) {
    const MixerKind kind = row.kind;
    INFO(row.name);
    RootWith root(context);
    const Tensor p = random(context, {5, 4}, 1), v = random(context, {5, 6}, 2);
    MixerOptions options{.kind = kind, .channels = 6, .parameters = 4, .rank = 2, .scale = 0};
    const auto identity = make_mixer(root, "identity", root.init, options);
    CHECK(identity->forward(p, v).value().to_vector() == v.to_vector());
    options.scale = 2;
    const auto mixer = make_mixer(root, "mixer", root.init, options);
    const auto all = mixer->forward(p, v).value().to_vector();
    CHECK(all != v.to_vector());
    for (int64_t b = 0; b < 5; ++b) {
      const Var alone = mixer->forward(slice(p, 0, b, b + 1), slice(v, 0, b, b + 1));
      check_same_alone("row", alone.value().to_vector(),
                       {all.begin() + 6 * b, all.begin() + 6 * b + 6});
    }
  }
}

TEST_CASE("modules: a child that fails or goes leaves its parent as it was") {
  const Context context = test_context();
  Rng rng;
  Module root;
  CHECK_THROWS_AS(Mamba(root, "bad", {context, rng}, {.d_model = 0}), ValueError);
  CHECK(root.parameters().empty());
  {
    const Linear child(root, "child", {context, rng}, 2, 3);
    CHECK(root.parameters().size() == 1);
  }
  CHECK(root.parameters().empty());
}

}  // namespace fprnn::tests
