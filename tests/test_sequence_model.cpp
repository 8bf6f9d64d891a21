// The backbone over chunks, single tokens and packed sequences.
#include <doctest/doctest.h>
#include <fprnn/models/decoder.h>

#include <functional>

#include "close.h"
#include "named_model.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kVocabulary = 7, kWidth = 8;
constexpr double kSame = kDouble ? 1e-10 : 1e-4;

// visit(name, model) for two layers of each kind in the registry, and for all in turn in a stack.
void for_models(const Context& context,
                const std::function<void(const std::string&, SequenceModel&)>& visit,
                bool with_caches = true) {
  std::vector<std::string> names;
  std::string all;
  for (const ModelKind& kind : kinds_here()) {
    if (kind.caches && !with_caches) continue;
    names.push_back(kind.name);
    all += (all.empty() ? "" : ",") + kind.name;
  }
  names.push_back(all);
  for (const std::string& name : names) {
    const NamedModel named({{"model", name},
                            {"layers", std::to_string(name == all ? names.size() : 2)},
                            {"d_model", std::to_string(kWidth)},
                            {"d_state", "4"},
                            {"headdim", "4"},
                            {"short_conv", "true"},
                            {"mixer", "householder"},
                            {"mixer_scale", "1"},
                            {"solver", "sequential"},
                            {"tolerance", kDouble ? "1e-13" : "1e-6"}});
    // With these weights no model makes a change of its embeddings more than 300 times as large, in
    // logits or gradients. With others the keys of fp-deltanet are short, and rounding grows with it.
    Rng rng{.seed = 6};
    const auto model = named.model.make(kVocabulary, {context, rng});
    // Embeddings of the size of one, as after training: fixed points are then the only ones.
    model->parameter("embedding.weight").value = random(context, {kVocabulary, kWidth}, 5);
    visit(name, *model);
  }
}

IntTensor some_tokens(const Context& context, const Shape& shape) {
  std::vector<int32_t> tokens(shape.elements());
  const Rng rng{.seed = 4};
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<int32_t>(rng.below(i, kVocabulary));
  return {context, shape, tokens};
}

// tokens[:, begin:end] of (B, T).
IntTensor columns(const IntTensor& tokens, int64_t begin, int64_t end) {
  const int64_t B = tokens.size(0), T = tokens.size(1);
  const std::vector<int32_t> all = tokens.to_vector();
  std::vector<int32_t> part;
  for (int64_t b = 0; b < B; ++b)
    part.insert(part.end(), all.begin() + b * T + begin, all.begin() + b * T + end);
  return {tokens.context(), {B, end - begin}, part};
}

// x[b, begin:end] of (B, T, V), flat.
std::vector<real> cut(const Tensor& x, int64_t b, int64_t begin, int64_t end) {
  const int64_t T = x.size(1), V = x.size(2);
  const std::vector<real> all = x.to_vector();
  const auto row = all.begin() + b * T * V;
  return {row + begin * V, row + end * V};
}

}  // namespace

// Chunks of 3, 0, 64 and 1 tokens: kernels change what they do at 16, 32 and 64. fp-deltanet and the stack of all
// models read 11: with initial weights a change of 1e-6 has become one of .5 and .05 after 68 tokens.
TEST_CASE("sequence model: whole sequences, chunks and single tokens agree") {
  const Context context = test_context();
  for_models(context, [&](const std::string& name, SequenceModel& model) {
    const bool grows = name.find(',') != std::string::npos || name == "fp-deltanet";
    const int64_t T = grows ? 11 : 68;
    const IntTensor tokens = some_tokens(context, {3, T});
    NoGrad tape(context);
    const Tensor whole = model.forward(tape, tokens).value();
    const auto check_part = [&](const Tensor& part, int64_t begin, int64_t end) {
      for (int64_t b = 0; b < 3; ++b)
        check_close(name, cut(part, b, 0, end - begin), cut(whole, b, begin, end), kSame);
    };
    SequenceModel::State state;
    for (const auto& [begin, end] :
         std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {3, 3}, {3, T - 1}, {T - 1, T}})
      check_part(model.forward(tape, columns(tokens, begin, end), state).value(), begin, end);
    SequenceModel::State decoder;
    for (int64_t t = 0; t < T; ++t) {
      const Tensor logits = model.step(decoder, columns(tokens, t, t + 1).reshaped(Shape{3}));
      REQUIRE(logits.shape() == Shape{3, kVocabulary});
      check_part(logits.reshaped({3, 1, kVocabulary}), t, t + 1);
    }
  });
}

// With everything dropped a model's layers add nothing, be their residual their own or the backbone's;
// a mask of ones changes nothing but what is rounded, and a layer's gradient is scaled as its output.
TEST_CASE("sequence model: what layers add is multiplied with their masks") {
  const Context context = test_context();
  const IntTensor tokens = some_tokens(context, {2, 5});
  for_models(context, [&](const std::string& name, SequenceModel& model) {
    const auto logits = [&](real first, real others) {
      std::vector<Conditions> on(model.layers().size());
      for (Conditions& each : on)
        each.output_mask = full(context, {2, 5, model.d_model()}, &each == &on[0] ? first : others);
      NoGrad tape(context);
      return model.forward(tape, tokens, on).value().to_vector();
    };
    NoGrad tape(context);
    check_close(name, logits(1, 1), model.forward(tape, tokens).value().to_vector(), kSame);
    CHECK_MESSAGE(logits(2, 1) != logits(1, 1), name);
    // The embedding alone is left: a token's logits do not depend on what was before it.
    const std::vector<real> bare = logits(0, 0);
    const std::vector<int32_t> ids = tokens.to_vector();
    const size_t V = bare.size() / ids.size();
    for (size_t i = 0; i < ids.size(); ++i)
      for (size_t j = 0; j < i; ++j)
        if (ids[i] == ids[j])
          CHECK_MESSAGE(
              std::equal(bare.begin() + i * V, bare.begin() + (i + 1) * V, bare.begin() + j * V),
              name);
  });
}

TEST_CASE("sequence model: output masks have their mean, and no other numbers") {
  const Tensor mask(test_context(), {50, 40});
  draw_output_mask(0.2, {.seed = 3, .stream = 1}, mask);
  double sum = 0;
  for (const real x : mask.to_vector()) {
    CHECK((x == 0 || x == real(1.25)));
    sum += x;
  }
  CHECK(sum / 2000 == doctest::Approx(1).epsilon(0.05));
}

TEST_CASE("sequence model: a decoder of weights that stay gives the bits of single steps") {
  const Context context = test_context();
  const IntTensor tokens = some_tokens(context, {2, 6});
  for_models(context, [&](const std::string& name, SequenceModel& model) {
    Decoder decoder(model);
    SequenceModel::State here, there;
    for (int64_t t = 0; t < 6; ++t) {
      const IntTensor token = columns(tokens, t, t + 1).reshaped({2});
      const auto logits = decoder.step(here, token).to_vector();
      CHECK_MESSAGE(same_bits(logits, model.step(there, token).to_vector()), name);
    }
  });
}

TEST_CASE("sequence model: the decoder's memory does not grow") {
  const Context context = context_with(1);  // two threads need more whenever they happen to meet
  const auto decode = [&](const std::string&, SequenceModel& model) {
    SequenceModel::State state;
    const IntTensor token = some_tokens(context, {2});
    for (int step = 0; step < 3; ++step) model.step(state, token);
    const int64_t peak = context.memory().statistics().peak_bytes;
    const int64_t in_use = context.memory().statistics().bytes_in_use;
    for (int step = 0; step < 50; ++step) model.step(state, token);
    CHECK(context.memory().statistics().peak_bytes == peak);
    CHECK(context.memory().statistics().bytes_in_use == in_use);
  };
  for_models(context, decode, false);
}

TEST_CASE("sequence model: packed sequences are as if alone, empty ones included") {
  const Context context = test_context();
  const std::vector<int64_t> offsets{0, 0, 5, 6, 6, 13, 15, 15};
  const IntTensor packed = some_tokens(context, {15});
  for_models(context, [&](const std::string& name, SequenceModel& model) {
    NoGrad tape(context);
    const Tensor logits = model.forward(tape, packed, offsets).value();
    REQUIRE(logits.shape() == Shape{15, kVocabulary});
    for (size_t b = 0; b + 1 < offsets.size(); ++b) {
      const int64_t begin = offsets[b], end = offsets[b + 1];
      if (begin == end) continue;
      const IntTensor alone = columns(packed.reshaped({1, 15}), begin, end);
      INFO(name, ", sequence ", b);
      check_same_alone(name, cut(model.forward(tape, alone).value(), 0, 0, end - begin),
                       cut(logits.reshaped({1, 15, kVocabulary}), 0, begin, end), kSame);
    }
    CHECK(model.forward(tape, some_tokens(context, {0}), std::vector<int64_t>{0, 0}).size(0) == 0);
    CHECK(model.forward(tape, some_tokens(context, {0}), std::vector<int64_t>{0}).size(0) == 0);
  });
}

TEST_CASE("sequence model: gradients of a packed batch are the sum of those of its sequences") {
  const Context context = test_context();
  const std::vector<int64_t> offsets{0, 4, 4, 10};
  const IntTensor packed = some_tokens(context, {10});
  const Tensor seed = random(context, {10, kVocabulary}, 77);
  for_models(context, [&](const std::string& name, SequenceModel& model) {
    const auto gradients = [&](const IntTensor& tokens, std::span<const int64_t> borders,
                               const Tensor& weights) {
      Tape tape(context);
      const Var logits = model.forward(tape, tokens, borders);
      Vars leaves;
      for (const auto& [path, parameter] : model.parameters())
        leaves.push_back(tape.leaf(*parameter));
      Values values;
      for (const Tensor& g : tape.vjp({logits}, {weights}, leaves)) values.push_back(g.to_vector());
      return values;
    };
    const Values whole = gradients(packed, offsets, seed);
    Values sum;
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 4}, {4, 10}}) {
      const std::vector<int64_t> alone{0, end - begin};
      const Values part = gradients(
          columns(packed.reshaped({1, 10}), begin, end).reshaped(Shape{end - begin}), alone,
          Tensor(context, {end - begin, kVocabulary},
                 cut(seed.reshaped({1, 10, kVocabulary}), 0, begin, end)));
      if (sum.empty()) sum.resize(part.size());
      for (size_t i = 0; i < part.size(); ++i) {
        sum[i].resize(part[i].size());
        for (size_t j = 0; j < part[i].size(); ++j) sum[i][j] += part[i][j];
      }
    }
    // A GPU adds in another order for other shapes; of a gradient far below the others, which is what
    // large terms leave of each other, that is more.
    const double floor = on_gpu() ? 0.01 : 0;
    // The stack of all models has 17 layers instead of two, and adds up what each one rounds.
    const double same = on_gpu() && name.find(',') != std::string::npos ? 10 * kSame : kSame;
    for (size_t i = 0; i < sum.size(); ++i) check_close(name, whole[i], sum[i], same, floor);
  });
}

TEST_CASE("sequence model: the state of another kind is refused") {
  const Context context = test_context();
  const IntTensor token = some_tokens(context, {2});
  const auto shapes_of = [](const SequenceModel::State& state) {
    std::vector<Shape> shapes;
    for (const LayerState& layer : state)
      for (const Tensor& part : layer) shapes.push_back(part.shape());
    return shapes;
  };
  std::vector<std::pair<std::string, SequenceModel::State>> states;
  for_models(context, [&](const std::string& name, SequenceModel& model) {
    states.emplace_back(name, SequenceModel::State());
    model.step(states.back().second, token);
  });
  int64_t refused = 0;
  for_models(context, [&](const std::string& name, SequenceModel& model) {
    SequenceModel::State own;
    model.step(own, token);
    for (const auto& [from, state] : states) {
      if (shapes_of(state) == shapes_of(own)) continue;
      const std::string what = name + " with the state of " + from;
      CAPTURE(what);
      SequenceModel::State foreign = state;
      CHECK_THROWS_AS(model.step(foreign, token), UsageError);
      CHECK(shapes_of(foreign) == shapes_of(state));
      ++refused;
    }
  });
  CHECK(refused > 200);
}

TEST_CASE("sequence model: wrong offsets and states of another model are refused") {
  const Context context = test_context();
  const IntTensor packed = some_tokens(context, {5});
  for_models(context, [&](const std::string&, SequenceModel& model) {
    NoGrad tape(context);
    for (const std::vector<int64_t>& wrong :
         {std::vector<int64_t>{}, {1, 5}, {0, 4}, {0, 6}, {0, 3, 2, 5}, {0, -1, 5}})
      check_refused<ValueError>("offsets", [&] { model.forward(tape, packed, wrong); });
    check_refused<ShapeError>("(total)", [&] {
      model.forward(tape, packed.reshaped({1, 5}), std::vector<int64_t>{0, 5});
    });
    SequenceModel::State state(3);
    check_refused<UsageError>("layers", [&] { model.step(state, packed); });
    state = {{random(context, {5, 2}, 1)}, {}};
    check_refused<UsageError>("state", [&] { model.step(state, packed); });
    state = {};
    model.step(state, packed);
    const SequenceModel::State before = state;
    CHECK_THROWS_AS(model.step(state, some_tokens(context, {4})), Error);
    REQUIRE(state.size() == before.size());
    for (size_t i = 0; i < state.size(); ++i)
      for (size_t j = 0; j < state[i].size(); ++j) CHECK(state[i][j].data() == before[i][j].data());
  });
}

}  // namespace fprnn::tests
