// The theorem behind fixed-point layers, for every cell: steps that are opened at a part of what they are given and
// closed with the rest are the cell's scan.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/cells/delta.h>
#include <fprnn/models/cells/gated.h>
#include <fprnn/models/cells/selective.h>
#include <fprnn/models/cells/ssd.h>
#include <fprnn/models/fixed_point_map.h>
#include <fprnn/models/modules.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

#include <memory>

#include "close.h"
#include "context.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kSequences = 2, kSteps = 6, kChannels = 6, kStates = 3, kStepNumbers = 2;
constexpr int64_t kHeads = 2, kHeadChannels = kChannels / kHeads;
constexpr double kRounding = kDouble ? 1e-12 : 1e-5;

struct CellCase {
  std::string name;
  std::unique_ptr<Cell> cell;
  // Of as many tokens as there are steps, random; (B, T, .), then weights.
  Var p;
  Vars signals, weights;
};

// Cells of heads.
void add_head_cases(const Context& context, std::vector<CellCase>& cases) {
  uint64_t stream = 80;
  const auto some = [&](const Shape& shape) { return Var(random(context, shape, stream++)); };
  const auto signal = [&](int64_t width) { return some({kSequences, kSteps, width}); };
  const Var a = affine(exp(some({kHeads})), -1, 0), bias = some({kHeads});
  for (const int64_t groups : {1, 2})
    cases.push_back({fmt::format("ssd, groups {}", groups),
                     std::make_unique<SsdCell>(SsdOptions{.heads = kHeads,
                                                          .channels = kHeadChannels,
                                                          .groups = groups,
                                                          .states = kStates,
                                                          .bc_norm = groups == 1}),
                     signal(2 * groups * kStates),
                     {signal(kHeads)},
                     {a, groups == 1 ? some({kHeads}) : some({kHeads, kHeadChannels}), bias}});
  for (const bool forgets : {false, true})
    cases.push_back(
        {forgets ? "delta, gated" : "delta",
         std::make_unique<DeltaCell>(
             DeltaOptions{.heads = kHeads, .keys = kStates, .channels = kHeadChannels}),
         signal(2 * kHeads * kStates),
         {sigmoid(signal(kHeads)), forgets ? affine(exp(signal(kHeads)), -1, 0) : Var()},
         {}});
}

std::vector<CellCase> cell_cases(const Context& context) {
  uint64_t stream = 40;
  const auto some = [&](const Shape& shape) { return Var(random(context, shape, stream++)); };
  const auto signal = [&](int64_t width) { return some({kSequences, kSteps, width}); };
  const Var a = affine(exp(some({kChannels, kStates})), -1, 0), skip = some({kChannels}),
            bias = some({kChannels}), weight = some({kChannels, kStepNumbers});
  const Tensor mask = clone(full(context, {kSequences, kSteps}, 1));
  put_rows(zeros(context, {1, kSteps}), mask, 1);
  std::vector<CellCase> cases;
  cases.push_back(
      {"gated", std::make_unique<GatedCell>(kChannels), Var(), {sigmoid(signal(kChannels))}, {}});
  for (const bool bc_norm : {true, false})
    cases.push_back(
        {bc_norm ? "selective" : "selective, b and c as they are",
         std::make_unique<SelectiveCell>(SelectiveOptions{kChannels, kStates, 0, bc_norm}),
         signal(2 * kStates),
         {signal(kChannels), Var()},
         {a, skip, bias, Var()}});
  cases.push_back({"selective, a sequence forgets its states",
                   std::make_unique<SelectiveCell>(SelectiveOptions{kChannels, kStates, 0}),
                   signal(2 * kStates),
                   {signal(kChannels), mask},
                   {a, skip, bias, Var()}});
  cases.push_back(
      {"selective, delta sees y",
       std::make_unique<SelectiveCell>(SelectiveOptions{kChannels, kStates, kStepNumbers}),
       signal(2 * kStates + kStepNumbers),
       {Var(), Var()},
       {a, skip, bias, weight}});
  add_head_cases(context, cases);
  return cases;
}

Var step_of(const Var& x, int64_t t) { return x.defined() ? slice(x, 1, t, t + 1) : Var(); }

}  // namespace

TEST_CASE(
    "cells: steps opened and closed are the scan, whatever part of mixed they are opened at") {
  const Context context = test_context();
  const Var mixed = random(context, {kSequences, kSteps, kChannels}, 30);
  for (const CellCase& at : cell_cases(context)) {
    const Cell& cell = *at.cell;
    const auto whole = cell.scan(mixed, cell.token(at.p, at.signals, at.weights), {});
    CHECK(whole.carry.shape() == cell.carry_shape(kSequences));
    for (const real part : {real(0), real(0.3), real(1)}) {
      Var carry;
      Vars v;
      for (int64_t t = 0; t < kSteps; ++t) {
        Vars now;
        for (const Var& signal : at.signals) now.push_back(step_of(signal, t));
        const Vars token = cell.token(step_of(at.p, t), now, at.weights);
        const Var known = affine(step_of(mixed, t), part, 0), moved = sub(step_of(mixed, t), known);
        const Cell::Opened step = cell.open(known, token, carry);
        v.push_back(add(step.v, mul(step.gain, moved)));
        carry = cell.close(step, moved);
      }
      const std::string name = at.name + ", opened at " + std::to_string(part);
      check_close(name, concat(v, 1).value().to_vector(), whole.v.value().to_vector(), kRounding);
      check_close(name + ", carry", carry.value().to_vector(), whole.carry.value().to_vector(),
                  kRounding);
    }
  }
}

TEST_CASE("cells: the gain of every step says how v moves with its own mixed") {
  const Context context = test_context();
  const Var mixed = random(context, {kSequences, kSteps, kChannels}, 30);
  for (const CellCase& at : cell_cases(context)) {
    const Cell& cell = *at.cell;
    const Vars token = cell.token(at.p, at.signals, at.weights);
    const Cell::Opened opened = cell.open(mixed, token, {});
    for (const int64_t t : {int64_t{0}, kSteps - 1}) {
      // Of one step alone.
      const Tensor moved = clone(zeros(context, {kSequences, kSteps, kChannels}));
      launch(context, CopyRows{.from = full(context, {kSequences, kChannels}, 1).data(),
                               .to = moved.data() + t * kChannels,
                               .rows = kSequences,
                               .length = kChannels,
                               .from_stride = kChannels,
                               .to_stride = kSteps * kChannels});
      const Var after = cell.scan(add(mixed, moved), token, {}).v;
      check_close(at.name + ", step " + std::to_string(t),
                  step_of(sub(after, opened.v), t).value().to_vector(),
                  step_of(opened.gain, t).value().to_vector(), kRounding * 10);
    }
  }
}

namespace {

// A cell without its fused forms.
struct Plain : Cell {
  const Cell& of;
  explicit Plain(const Cell& of) : of(of) {}
  Shape carry_shape(int64_t B) const override { return of.carry_shape(B); }
  int64_t raw_size() const override { return of.raw_size(); }
  Vars token(const Var& p, const Vars& signals, const Vars& weights) const override {
    return of.token(p, signals, weights);
  }
  Scanned scan(const Var& mixed, const Vars& token, const Var& carry) const override {
    return of.scan(mixed, token, carry);
  }
  Opened open(const Var& mixed, const Vars& token, const Var& carry) const override {
    return of.open(mixed, token, carry);
  }
  Var close(const Opened& step, const Var& moved) const override { return of.close(step, moved); }
};

// f(y), its carry, and the gradients of y and of all inputs.
std::vector<std::vector<real>> applied(const FixedPointMap& map, const Tensor& y, const Past& past,
                                       const FixedPointInputs& in) {
  Tape tape(y.context());
  Vars asked{tape.variable(y)}, inputs;
  for (const Var& input : in.flat()) {
    inputs.push_back(input.defined() ? tape.variable(input.value()) : Var());
    if (input.defined()) asked.push_back(inputs.back());
  }
  const auto at = map.apply(asked[0], past, in.with(inputs));
  std::vector<std::vector<real>> values{at.f.value().to_vector(), at.carry.value().to_vector()};
  const std::vector<Tensor> seeds{random(y.context(), at.f.shape(), 90),
                                  random(y.context(), at.carry.shape(), 91)};
  for (const Tensor& gradient : tape.vjp({at.f, at.carry}, seeds, asked))
    values.push_back(gradient.to_vector());
  return values;
}

}  // namespace

TEST_CASE("cells: a layer's fused forms are its definition, with and without norm, gate and past") {
  const Context context = test_context();
  uint64_t stream = 60;
  const auto some = [&](const Shape& shape) { return random(context, shape, stream++); };
  for (const CellCase& at : cell_cases(context)) {
    if (at.name == "selective, a sequence forgets its states") continue;  // a mask has no gradient
    Root root;
    Rng rng{.seed = 8, .stream = 0};
    const auto mixer = make_mixer(root, "mixer", {context, rng},
                                  {.channels = kChannels, .parameters = kChannels, .rank = 2});
    const int64_t P = mixer->outputs() + at.cell->raw_size();
    const Tensor y = some({kSequences, kSteps, kChannels});
    for (const int with : {0, 1, 2, 3, 4}) {
      const bool norm = with >= 1, past = with == 3, rms = with == 4;
      FixedPointInputs in{.x = some(y.shape()),
                          .projected = some({kSequences, kSteps, P}),
                          .gate = with == 2 ? Var(some(y.shape())) : Var(),
                          .weight_y = some({P, kChannels}),
                          .norm_weight = norm ? Var(some({kChannels})) : Var(),
                          .norm_bias = norm && !rms ? Var(some({kChannels})) : Var(),
                          .signals = at.signals,
                          .weights = at.weights};
      const Past before{past ? Var(some({kSequences, kChannels})) : Var(),
                        past ? Var(some(at.cell->carry_shape(kSequences))) : Var()};
      const Plain plain(*at.cell);
      const auto expected = applied({*mixer, plain, kNormEps}, y, before, in);
      const auto found = applied({*mixer, *at.cell, kNormEps}, y, before, in);
      REQUIRE(found.size() == expected.size());
      for (size_t i = 0; i < found.size(); ++i)
        check_close(fmt::format("{}, with {}, value {}", at.name, with, i), found[i], expected[i],
                    kRounding * 10);
    }
  }
}

}  // namespace fprnn::tests
