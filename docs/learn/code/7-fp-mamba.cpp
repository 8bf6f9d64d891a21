// Chapter 7: FP-Mamba whole. Its parameters, its solution by two solvers, training on S3, lengths that
// training never showed, and what becomes of a disturbance of y or of the scan's state.
#include <fprnn/core/vector.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/mamba.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/tasks/run/evaluate.h>
#include <fprnn/tasks/word_problem.h>

#include <cmath>
#include <cstdio>
#include <functional>

#include "drawing.h"
#include "program.h"

namespace {

using namespace fprnn;

constexpr int64_t kWidth = 32;

// [model]
// One layer between an embedding and its transpose as the head. The gate is inside the loop.
FpMambaOptions layer_options() {
  FpMambaOptions options;
  options.d_model = kWidth;  // D = 2 d_model = 64 channels in the loop
  options.d_state = 16;      // N
  options.rank = 2;          // two Householder factors, scale 2
  options.glu_in_loop = true;
  options.solver.gradient = gradient_named("exact");
  options.solver.unconverged = Unconverged::accept;  // this program counts them itself
  return options;
}

std::unique_ptr<SequenceModel> make_model(const Context& context, uint64_t seed, bool diagonal) {
  Rng rng{.seed = seed};
  const LayerFactory layer = [&](Module& parent, std::string name,
                                 const Init& init) -> std::unique_ptr<Layer> {
    if (diagonal)
      return std::make_unique<Mamba>(parent, std::move(name), init,
                                     MambaOptions{.d_model = kWidth});
    return std::make_unique<FpMamba>(parent, std::move(name), init, layer_options());
  };
  return std::make_unique<SequenceModel>(
      Init{context, rng}, SequenceModelOptions{.vocabulary = 7,  // six elements and BOS
                                               .d_model = kWidth,
                                               .layers = 1,
                                               .make_layer = layer});
}
// [/model]

// [train]
TrainOptions recipe() {
  TrainOptions options;
  options.steps = 400;
  options.batch_size = 32;
  options.length = 16;
  options.lr = 5e-3;
  options.warmup = 50;
  options.clip = 0.3;
  options.iteration_cap.fixed = 200;
  options.state_dropout = 0.1;  // a token in ten forgets the scan's state
  options.adamw.beta2 = 0.95;
  options.adamw.weight_decay = 0.1;
  return options;
}

std::unique_ptr<SequenceModel> trained(const Context& context, const Task& task, bool diagonal) {
  std::unique_ptr<SequenceModel> model = make_model(context, 1, diagonal);
  TrainOptions options = recipe();
  if (diagonal) options.state_dropout = 0;  // Mamba has nothing else to remember with
  Training training(*model, task, context, options);
  while (!training.finished()) training.step();
  return model;
}
// [/train]

// Trained once, for all sections.
struct Trained {
  Context context = Context::cpu();
  WordProblem task{group_named("S3")};
  std::unique_ptr<SequenceModel> dense = trained(context, task, false);
};
const Trained& model() {
  static const Trained once;
  return once;
}

void print_parameters() {
  const auto made = make_model(Context::cpu({.threads = 1}), 1, false);
  for (const NamedParameter& named : made->parameters())
    std::printf("%-34s %s\n", named.path.c_str(), describe(named.parameter->value.shape()).c_str());
  std::printf("%d numbers in all\n", static_cast<int>(made->parameter_count()));
}

// |x - y| / |y|
double relative_distance(const Tensor& x, const Tensor& y) {
  return std::sqrt(sum_of_squares(sub(x, y).value()) / sum_of_squares(y));
}

// [solve]
void solve_twice() {
  const Context context = Context::cpu({.threads = 1});
  const auto made = make_model(context, 1, false);
  auto& layer = dynamic_cast<FpMamba&>(*made->layers()[0]);
  Rng rng{.seed = 4};
  const Tensor u = normal(context, {4, 24, kWidth}, 0, 1, rng);  // (B, T, d)
  std::vector<std::vector<real>> solutions;
  for (const Solver solver : {Solver::sequential, Solver::parallel}) {
    layer.solver.solver = solver;
    layer.forward(u);
    const FixedPointReport report = layer.report();
    std::printf("%-10s  %d of %d sequences unconverged\n", std::string(name_of(solver)).c_str(),
                static_cast<int>(report.unconverged()), static_cast<int>(u.size(0)));
    solutions.push_back(layer.solution().to_vector());
  }
  double largest = 0;
  for (size_t i = 0; i < solutions[0].size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(solutions[0][i] - solutions[1][i])));
  std::printf("the two solutions agree within 0.05: %s\n", largest < 0.05 ? "yes" : "no");
}
// [/solve]

// [lengths]
const char* share(double value) {
  return value >= 0.9 ? "at least .9" : value < 0.05 ? "below .05" : "between";
}

double whole_words(SequenceModel& of, int64_t length) {
  return evaluate(of, model().task, model().context, 1, length, 128).metric("whole_sequences");
}

void print_lengths() {
  const auto diagonal = trained(model().context, model().task, true);
  for (const int64_t length : {16, 64, 256})
    std::printf("length %3d  whole words right: FP-Mamba %s, Mamba %s\n", static_cast<int>(length),
                share(whole_words(*model().dense, length)), share(whole_words(*diagonal, length)));
}
// [/lengths]

// [disturb]
// Two readers of the same words, a token at a time. Before token kAt the state of the second is
// changed: state[0] is y_{t-1} (B, D), state[1] the scan's H (B, D, N).
constexpr int64_t kWords = 64, kLength = 48, kAt = 16;

struct Disturbed {
  double at_once, at_end;  // |y - y of the first reader| over that one's length
  double right;            // share of words whose last answer is right
};
Disturbed disturb(const std::function<void(LayerState& state)>& change) {
  const auto& [context, task, dense] = model();
  const Batch batch = task.sample(context, {.seed = 99}, kWords, kLength);
  const std::vector<int32_t> tokens = batch.tokens.to_vector(), targets = batch.targets.to_vector();
  const int64_t T = batch.tokens.size(1);
  SequenceModel::State first, second;  // of a model of one layer
  Disturbed result{};
  for (int64_t t = 0; t < T; ++t) {
    std::vector<int32_t> column(kWords);
    for (int64_t b = 0; b < kWords; ++b) column[b] = tokens[b * T + t];
    const IntTensor next(context, {kWords}, column);
    if (t == kAt) change(second[0]);
    dense->step(first, next);
    const std::vector<int32_t> answers = argmax(dense->step(second, next)).to_vector();
    if (t == kAt) result.at_once = relative_distance(second[0][0], first[0][0]);
    if (t < T - 1) continue;
    result.at_end = relative_distance(second[0][0], first[0][0]);
    for (int64_t b = 0; b < kWords; ++b)
      result.right += (answers[b] == targets[b * T + t] ? 1.0 : 0.0) / kWords;
  }
  return result;
}
// [/disturb]

void print(const char* what, const Disturbed& result) {
  const auto distance = [](double value, double small, const char* below) {
    return value < small ? below : value > 0.5 ? "above .5" : "between";
  };
  std::printf("%-26s %-9s   %-9s   %s\n", what, distance(result.at_once, 0.25, "below .25"),
              distance(result.at_end, 0.03, "below .03"),
              result.right >= 0.9  ? "at least .9"
              : result.right < 0.4 ? "below .4"
                                   : "between");
}

// [changes]
void add_noise(Tensor& y, real size) {  // whose numbers are about as large as 1
  Rng rng{.seed = 7};
  y = add(y, normal(y.context(), y.shape(), 0, size, rng)).value();
}
void forget(Tensor& x) { x = zeros(x.context(), x.shape()); }

void print_disturbances() {
  std::printf("change before step 16      at once     32 later    words right at the end\n");
  print("noise of 0.1 on y", disturb([](LayerState& state) { add_noise(state[0], real(0.1)); }));
  print("noise of 0.3 on y", disturb([](LayerState& state) { add_noise(state[0], real(0.3)); }));
  print("noise of 2 on y", disturb([](LayerState& state) { add_noise(state[0], 2); }));
  print("y forgotten", disturb([](LayerState& state) { forget(state[0]); }));
  print("H forgotten", disturb([](LayerState& state) { forget(state[1]); }));
}
// [/changes]

// One step of the layer: what depends on x, what on y_t and what on the step before.
std::string draw_layer() {
  using learn::Anchor;
  using learn::Ink;
  learn::Drawing drawing(680, 330, "One step of FP-Mamba as a diagram");
  drawing.text({20, 26}, "green: inside the loop, solved for y_t", Anchor::start, 12, Ink::green);
  drawing.text({20, 44}, "orange: from step t - 1", Anchor::start, 12, Ink::orange);
  drawing.box({20, 150, 90, 40}, "x_t", Ink::blue);
  drawing.box({520, 260, 110, 36}, "z_t", Ink::blue);
  drawing.box({170, 150, 120, 40}, "mixer Q(p_t)", Ink::green);
  drawing.box({345, 150, 110, 40}, "scan H_t", Ink::green);
  drawing.box({510, 150, 130, 40}, "gate, LayerNorm", Ink::green);
  drawing.box({170, 260, 120, 36}, "y_{t-1}", Ink::orange);
  drawing.box({345, 260, 110, 36}, "H_{t-1}", Ink::orange);
  drawing.arrow({110, 170}, {168, 170}, Ink::blue);
  drawing.arrow({575, 260}, {575, 192}, Ink::blue);
  drawing.arrow({290, 170}, {343, 170});
  drawing.arrow({455, 170}, {508, 170});
  drawing.arrow({230, 260}, {230, 192}, Ink::orange);
  drawing.arrow({290, 270}, {360, 192}, Ink::orange);
  drawing.arrow({400, 260}, {400, 192}, Ink::orange);
  drawing.text({238, 232}, "p_t", Anchor::start, 12);
  drawing.text({316, 218}, "b, c", Anchor::end, 12);
  drawing.line({575, 150}, {575, 90}, Ink::green);
  drawing.line({575, 90}, {230, 90}, Ink::green);
  drawing.arrow({230, 90}, {230, 148}, Ink::green);
  drawing.text({400, 82}, "y_t, until it no longer changes", Anchor::middle, 12, Ink::green);
  drawing.arrow({640, 170}, {672, 170});
  drawing.text({650, 206}, "y_t", Anchor::middle, 12);
  return drawing.svg();
}

}  // namespace

int main(int argc, char** argv) {
  return learn::run(argc, argv,
                    {{"parameters", print_parameters},
                     {"solve", solve_twice},
                     {"lengths", print_lengths},
                     {"disturb", print_disturbances}},
                    {{"7-fp-mamba-layer", draw_layer}});
}
