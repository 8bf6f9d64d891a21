// Modules: their parameters, and a Mamba block over sequences, chunks, steps and batches.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/mixer.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/selective_scan.h>

#include <cmath>

#include "close.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr MambaOptions kSizes{.d_model = 6, .d_state = 5, .expand = 2, .dt_rank = 2};
constexpr int64_t kInner = 12;

// A scrambled block with the memory that it stands on.
struct Block {
  Context context;
  Rng rng{.seed = 3, .stream = 0};
  Root root = {};
  Mamba mamba;

  explicit Block(const Context& context)
      : context(context), mamba(root, "mamba", {context, rng}, kSizes) {
    scramble(mamba);
  }
};

// x[:, begin:end].
Var times(const Var& x, int64_t begin, int64_t end) { return slice(x, 1, begin, end); }

// The block over chunks of these lengths, its state carried from each to the next.
Var in_chunks(Mamba& mamba, const Var& u, const std::vector<int64_t>& lengths, MambaState& state) {
  Vars outputs;
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    outputs.push_back(mamba.forward(times(u, begin, begin + length), state));
    begin += length;
  }
  REQUIRE(begin == u.size(1));
  return concat(outputs, 1);
}

constexpr int64_t kTime = 2 * kSelectiveScanChunk + 7;

std::vector<std::vector<int64_t>> ways_to_cut() {
  return {{1, 2, 3, kTime - 6},
          {kSelectiveScanChunk, 1, kTime - kSelectiveScanChunk - 1},
          {kTime - 1, 1},
          {1, kTime - 1},
          std::vector<int64_t>(kTime, 1)};
}

}  // namespace

TEST_CASE("models: a sequence's whole is the same in chunks and one token at a time") {
  Block block(test_context());
  const Tensor u = random(block.context, {3, kTime, kSizes.d_model}, 1, 2);
  MambaState whole_state;
  const Var whole = block.mamba.forward(u, whole_state);
  CHECK(whole.shape() == u.shape());
  CHECK(whole_state.conv.shape() == Shape{3, kSizes.conv_width - 1, kInner});
  CHECK(whole_state.scan.shape() == Shape{3, kInner, kSizes.d_state});
  CHECK(same_bits(block.mamba.forward(u).value().to_vector(), whole.value().to_vector()));
  const double tolerance = kDouble ? 1e-10 : 1e-5;
  for (const auto& lengths : ways_to_cut()) {
    MambaState state;
    const Var y = in_chunks(block.mamba, u, lengths, state);
    const std::string name = fmt::format("{} chunks, the first of {}", lengths.size(), lengths[0]);
    check_close(name, y.value().to_vector(), whole.value().to_vector(), tolerance);
    check_close(name + ": conv state", state.conv.value().to_vector(),
                whole_state.conv.value().to_vector(), tolerance);
    check_close(name + ": scan state", state.scan.value().to_vector(),
                whole_state.scan.value().to_vector(), tolerance);
  }
}

// Had the state no influence, all of the above would hold for any state.
TEST_CASE("models: a Mamba block remembers") {
  Block block(test_context());
  const Tensor u = random(block.context, {1, kTime, kSizes.d_model}, 1, 2);
  const auto whole = times(block.mamba.forward(u), 20, kTime).value().to_vector();
  MambaState forgotten, remembered, no_conv, no_scan;
  const Var rest = times(u, 20, kTime);
  block.mamba.forward(times(u, 0, 20), remembered);
  no_conv.scan = remembered.scan;
  no_scan.conv = remembered.conv;
  const auto rest_from = [&](MambaState state) {
    return relative_error(block.mamba.forward(rest, state).value().to_vector(), whole);
  };
  CHECK(rest_from(remembered) < 1e-5);
  CHECK(rest_from(forgotten) > 1e-3);
  CHECK(rest_from(no_conv) > 1e-3);
  CHECK(rest_from(no_scan) > 1e-3);
}

// Bit for bit on the CPU (run_case.h), like whatever is compared by check_same_alone.
TEST_CASE("models: a sequence's answer is the same alone and in a batch of five") {
  Block block(test_context());
  const auto model = mamba_model(block.context, {}, 9, 2, kSizes);
  scramble(*model);
  std::vector<int32_t> drawn(5 * kTime);
  for (size_t i = 0; i < drawn.size(); ++i) drawn[i] = int32_t(Rng{4, 4}.below(i, 9));
  const Tensor u = random(block.context, {5, kTime, kSizes.d_model}, 1, 2);
  const auto y = block.mamba.forward(u).value().to_vector();
  NoGrad tape(block.context);
  const auto logits =
      model->forward(tape, IntTensor(block.context, {5, kTime}, drawn)).value().to_vector();
  // A sequence's part of a whole.
  const auto part = [](const auto& all, int64_t b) {
    const auto size = int64_t(all.size()) / 5;
    return std::vector(all.begin() + b * size, all.begin() + (b + 1) * size);
  };
  for (int64_t b = 0; b < 5; ++b) {
    const Tensor alone(block.context, {1, kTime, kSizes.d_model}, part(u.to_vector(), b));
    check_same_alone("block", block.mamba.forward(alone).value().to_vector(), part(y, b));
    const IntTensor tokens(block.context, {1, kTime}, part(drawn, b));
    check_same_alone("model", model->forward(tape, tokens).value().to_vector(), part(logits, b));
  }
}

TEST_CASE("models: recorded or not, and on any number of threads, outputs have the same bits") {
  std::vector<std::vector<real>> outputs;
  for (const int threads : {1, 2, 3}) {
    Block block(context_with(threads));
    const Tensor u = random(block.context, {40, kTime, kSizes.d_model}, 1, 2);
    Tape tape(block.context);
    NoGrad no_tape(block.context);
    outputs.push_back(block.mamba.forward(u).value().to_vector());
    outputs.push_back(block.mamba.forward(tape.variable(u)).value().to_vector());
    outputs.push_back(block.mamba.forward(no_tape.constant(u)).value().to_vector());
  }
  for (const auto& output : outputs) CHECK(same_bits(output, outputs[0]));
}

TEST_CASE("models: no output depends on what comes later") {
  Block block(test_context());
  const Tensor u = random(block.context, {2, kTime, kSizes.d_model}, 1, 2);
  std::vector<real> values = u.to_vector();
  for (int64_t i = 0; i < kSizes.d_model; ++i) values[23 * kSizes.d_model + i] += 1;
  const Tensor changed(block.context, u.shape(), values);
  const Var y = block.mamba.forward(u), z = block.mamba.forward(changed);
  const auto before = [](const Var& x) { return times(x, 0, 23).value().to_vector(); };
  CHECK(same_bits(before(y), before(z)));
  CHECK(times(y, 23, 24).value().to_vector() != times(z, 23, 24).value().to_vector());
}

namespace {

// <seed, block(u)> while u and the parameters move, all as one long list of numbers.
struct Landscape {
  Block block{test_context()};
  std::vector<Tensor> places;  // u, then the parameters
  std::vector<Tensor> starts;
  Tensor seed;

  explicit Landscape(int64_t T) {
    const Shape shape{2, T, kSizes.d_model};
    places.push_back(random(block.context, shape, 1, 2));
    for (const auto& [path, parameter] : block.mamba.parameters())
      places.push_back(parameter->value);
    for (const Tensor& place : places) starts.push_back(clone(place));
    seed = random(block.context, shape, 2);
  }
  // Moves by `distance` along signs that are drawn for each element of the chosen places.
  double at(double distance, const std::vector<size_t>& chosen, uint64_t direction) {
    for (const size_t i : chosen) {
      std::vector<real> moved = starts[i].to_vector();
      for (size_t k = 0; k < moved.size(); ++k)
        moved[k] += static_cast<real>(distance * sign(i, int64_t(k), direction));
      assign(places[i], moved);
    }
    const std::vector<real> y = block.mamba.forward(places[0]).value().to_vector(),
                            weights = seed.to_vector();
    for (const size_t i : chosen) copy(starts[i], places[i]);
    double total = 0;
    for (size_t k = 0; k < y.size(); ++k) total += double(weights[k]) * y[k];
    return total;
  }
  static double sign(size_t place, int64_t element, uint64_t direction) {
    return Rng{direction, place}.bits(element) % 2 == 0 ? 1 : -1;
  }
};

}  // namespace

TEST_CASE("models: a Mamba block's gradients are those of central differences") {
  Landscape land(9);
  Tape tape(land.block.context);
  Vars asked{tape.variable(land.places[0])};
  const Var y = land.block.mamba.forward(asked[0]);
  for (const auto& [path, parameter] : land.block.mamba.parameters())
    asked.push_back(tape.leaf(*parameter));
  std::vector<std::vector<real>> gradients;
  for (const Tensor& gradient : tape.vjp({y}, {land.seed}, asked))
    gradients.push_back(gradient.to_vector());

  std::vector<std::vector<size_t>> choices(3);
  for (size_t i = 0; i < gradients.size(); ++i) {
    choices.push_back({i});
    for (const size_t all : {0, 1, 2}) choices[all].push_back(i);
  }
  const double h = kDouble ? 0x1p-12 : 0x1p-8, tolerance = kDouble ? 1e-7 : 1e-3;
  for (size_t direction = 0; direction < choices.size(); ++direction) {
    const std::vector<size_t>& chosen = choices[direction];
    double along = 0, squares = 0;
    for (const size_t i : chosen) {
      squares += std::pow(length(gradients[i]), 2);
      for (size_t k = 0; k < gradients[i].size(); ++k)
        along += gradients[i][k] * Landscape::sign(i, int64_t(k), direction);
    }
    const auto f = [&](double distance) { return land.at(distance, chosen, direction); };
    const double difference = (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h);
    INFO("direction ", direction, ": ", along, " instead of ", difference);
    CHECK(squares > 0);
    CHECK(std::abs(along - difference) <= tolerance * std::sqrt(squares));
  }
}

namespace {

// 2 x + 1/2: a layer simple enough to follow by hand.
struct Simple : Layer {
  using Layer::Layer;
  Var evaluate(const Var& x, LayerState*, const Conditions&) override {
    return affine(x, 2, real(0.5));
  }
};

// The same as all that a block does.
struct Whole : Simple {
  using Simple::Simple;
  bool has_residual() const override { return true; }
};

std::vector<double> naive_rms_norm(const std::vector<double>& x, const std::vector<real>& weight) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    y[i] = x[i] * weight[i] / std::sqrt(squares / double(x.size()) + 1e-5);
  return y;
}

}  // namespace

TEST_CASE(
    "models: the backbone is pre-norm residual blocks between an embedding and its transpose") {
  const Context context = test_context();
  constexpr int64_t kVocabulary = 7, kWidth = 5, kTokens = 6;
  Rng rng;
  SequenceModel model({context, rng}, {.vocabulary = kVocabulary,
                                       .d_model = kWidth,
                                       .layers = 2,
                                       .make_layer = [](Module& parent, std::string name,
                                                        const Init&) -> std::unique_ptr<Layer> {
                                         return std::make_unique<Simple>(parent, std::move(name));
                                       }});
  scramble(model);
  const auto weight = [&](const std::string& path) {
    return model.parameter(path).value.to_vector();
  };
  const std::vector<real> table = weight("embedding.weight");
  const std::vector<int32_t> tokens{0, 6, 3, 3, 1, 5};
  std::vector<double> expected;
  for (const int32_t token : tokens) {
    std::vector<double> residual(table.begin() + token * kWidth,
                                 table.begin() + (token + 1) * kWidth);
    for (const char* norm : {"layers.0.norm.weight", "layers.1.norm.weight"}) {
      const auto x = naive_rms_norm(residual, weight(norm));
      for (size_t i = 0; i < x.size(); ++i) residual[i] += 2 * x[i] + 0.5;
    }
    const auto x = naive_rms_norm(residual, weight("norm.weight"));
    for (int64_t v = 0; v < kVocabulary; ++v) {
      double logit = 0;
      for (int64_t i = 0; i < kWidth; ++i) logit += x[i] * table[v * kWidth + i];
      expected.push_back(logit);
    }
  }
  NoGrad tape(context);
  const Var logits = model.forward(tape, IntTensor(context, {2, kTokens / 2}, tokens));
  CHECK(logits.shape() == Shape{2, kTokens / 2, kVocabulary});
  check_close("logits", logits.value().to_vector(), expected, kDouble ? 1e-13 : 1e-5);
}

TEST_CASE("models: a layer with norms and residual of its own gets neither from the backbone") {
  const Context context = test_context();
  Rng rng;
  SequenceModel model({context, rng}, {.vocabulary = 3,
                                       .d_model = 2,
                                       .layers = 2,
                                       .make_layer = [](Module& parent, std::string name,
                                                        const Init&) -> std::unique_ptr<Layer> {
                                         return std::make_unique<Whole>(parent, std::move(name));
                                       }});
  CHECK(model.parameters().size() == 2);  // the table and the last norm
  const Tensor table = random(context, {3, 2}, 5);
  model.parameter("embedding.weight").value = table;
  NoGrad tape(context);
  const auto logits =
      model.forward(tape, IntTensor(context, {1, 3}, std::vector<int32_t>{0, 1, 2}));
  const Var ones = full(context, Shape{2}, 1);
  const Var last = rms_norm(affine(table, 4, real(1.5)), ones, real(1e-5));
  check_close("logits", logits.value().to_vector(),
              matmul(last, table, {.transpose_b = true}).value().to_vector(),
              kDouble ? 1e-13 : 1e-5);
}

TEST_CASE("models: gradients flow through the state that chunks carry") {
  Block block(test_context());
  const Tensor u = random(block.context, {2, kTime, kSizes.d_model}, 1, 2);
  const Tensor seed = random(block.context, u.shape(), 2);
  const auto gradients_of = [&](const std::vector<int64_t>& lengths) {
    Tape tape(block.context);
    Vars asked{tape.variable(u)};
    MambaState state;
    const Var y = in_chunks(block.mamba, asked[0], lengths, state);
    for (const auto& [path, parameter] : block.mamba.parameters())
      asked.push_back(tape.leaf(*parameter));
    std::vector<std::vector<real>> gradients;
    for (const Tensor& gradient : tape.vjp({y}, {seed}, asked))
      gradients.push_back(gradient.to_vector());
    return gradients;
  };
  const auto whole = gradients_of({kTime});
  for (const auto& lengths : ways_to_cut()) {
    const auto pieces = gradients_of(lengths);
    for (size_t i = 0; i < whole.size(); ++i)
      check_close(fmt::format("{} chunks, input {}", lengths.size(), i), pieces[i], whole[i],
                  kDouble ? 1e-10 : 2e-5);
  }
}

TEST_CASE("models: chunks without a token and batches without a sequence are legal") {
  Block block(test_context());
  const Tensor u = random(block.context, {2, 5, kSizes.d_model}, 1, 2);
  MambaState state;
  block.mamba.forward(u, state);
  const auto conv = state.conv.value().to_vector(), scan = state.scan.value().to_vector();
  CHECK(block.mamba.forward(times(u, 5, 5), state).shape() == Shape{2, 0, kSizes.d_model});
  CHECK(same_bits(state.conv.value().to_vector(), conv));
  CHECK(same_bits(state.scan.value().to_vector(), scan));
  CHECK(block.mamba.forward(slice(u, 0, 1, 1)).shape() == Shape{0, 5, kSizes.d_model});
}

TEST_CASE("models: inputs and states of other shapes are refused") {
  Block block(test_context());
  const auto of = [&](const Shape& shape) { return Var(zeros(block.context, shape)); };
  for (const Shape& shape : {Shape{}, Shape{6}, Shape{3, 6}, Shape{1, 3, 5}, Shape{1, 3, 7},
                             Shape{1, 6, 3}, Shape{1, 1, 3, 6}})
    CHECK_THROWS_AS(block.mamba.forward(of(shape)), ShapeError);
  const Var u = of({2, 3, 6});
  for (const Shape& shape : {Shape{1, 3, 12}, Shape{2, 4, 12}, Shape{2, 3, 6}, Shape{2, 36}}) {
    MambaState state{of(shape), {}};
    CHECK_THROWS_AS(block.mamba.forward(u, state), ShapeError);
  }
  for (const Shape& shape : {Shape{1, 12, 5}, Shape{2, 5, 12}, Shape{2, 12, 4}, Shape{24, 5}}) {
    MambaState state{{}, of(shape)};
    CHECK_THROWS_AS(block.mamba.forward(u, state), ShapeError);
  }
  const auto model = mamba_model(block.context, {}, 9, 1, kSizes);
  NoGrad tape(block.context);
  const auto tokens = [&](const Shape& shape, int32_t token) {
    return IntTensor(block.context, shape, std::vector<int32_t>(shape.elements(), token));
  };
  CHECK(model->forward(tape, tokens({2, 3}, 8)).shape() == Shape{2, 3, 9});
  for (const int32_t unknown : {9, -1})
    CHECK_THROWS_AS(model->forward(tape, tokens({2, 3}, unknown)).value().to_vector(), ValueError);
  CHECK_THROWS_AS(model->forward(tape, tokens({6}, 0)), ShapeError);
}

}  // namespace fprnn::tests
