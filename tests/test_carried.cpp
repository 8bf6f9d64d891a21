// State carried from batch to batch: by training, its checkpoints and evaluation.
#include <doctest/doctest.h>
#include <fprnn/models/checkpoint.h>
#include <fprnn/tasks/run/evaluate.h>

#include <cmath>

#include "close.h"
#include "folder.h"
#include "named_model.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kVocabulary = 5, kBatches = 4;  // of a text

// Lanes of random tokens, to be said one position later. The text of a lane is kBatches long and
// begins again after that.
struct Lanes : Task {
  bool carried = true;
  int64_t batches = kBatches;
  int64_t first_lane = 0;

  int64_t vocabulary() const override { return kVocabulary; }
  bool carries_state() const override { return carried; }
  Batch at(const Context& context, int64_t B, int64_t from, int64_t length) const {
    std::vector<int32_t> tokens, targets;
    for (int64_t b = first_lane; b < first_lane + B; ++b)
      for (int64_t t = from; t < from + length; ++t) {
        const auto token = [&](int64_t place) {
          return int32_t(Rng{7, uint64_t(b)}.below(place, kVocabulary));
        };
        tokens.push_back(token(t));
        targets.push_back(token(t + 1));
      }
    return {.tokens = IntTensor(context, {B, length}, tokens),
            .targets = IntTensor(context, {B, length}, targets),
            .mask = Tensor(context, {B, length}, std::vector<real>(B * length, 1)),
            .starts = from == 0};
  }
  Batch sample(const Context& context, const Rng&, int64_t B, int64_t length) const override {
    return at(context, B, 0, length);
  }
  Batch training_batch(const Context& context, uint64_t, int64_t number, int64_t B,
                       int64_t length) const override {
    return at(context, B, number % batches * length, length);
  }
  // Lanes of `total` tokens, read `window` at a time.
  Reading text(int64_t lanes, int64_t total, int64_t window) const {
    return {.length = total,
            .sequences = lanes,
            .batches = (total + window - 1) / window,
            .carries = true,
            .batch = [=, *this](const Context& context, int64_t number) {
              const int64_t from = number * window;
              return at(context, lanes, from, std::min(window, total - from));
            }};
  }
  std::vector<Metric> metrics() const override { return {{.name = "nats", .over = nats}}; }
};

constexpr int64_t kLength = 6, kLanes = 3;

// A rate that changes no weight.
const TrainOptions kFrozen{
    .steps = 2 * kBatches, .batch_size = kLanes, .length = kLength, .lr = 1e-30};

const KeyTexts kSmall = key_texts(
    "d_model=8 d_state=4 headdim=4 layers=2 mixer=householder mixer_scale=1 solver=sequential "
    "tolerance=1e-6 ponder_weight=0");

std::unique_ptr<SequenceModel> model_of(const Context& context, const std::string& name) {
  KeyTexts values = kSmall;
  values.emplace_back("model", name);
  Rng rng{3, 1};
  auto model = named_model(values, kVocabulary, {context, rng});
  // Embeddings of the size of one, as after training.
  model->parameter("embedding.weight").value = random(context, {kVocabulary, 8}, 5);
  return model;
}

std::vector<double> losses(Training& training, int64_t steps) {
  std::vector<double> all;
  for (int64_t i = 0; i < steps; ++i) all.push_back(training.step().loss);
  return all;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// Training that has gone on for some steps, and what goes on from its checkpoint.
struct Run {
  Lanes task = {};
  std::unique_ptr<SequenceModel> model;
  Training training;

  explicit Run(const Context& context, const std::string& name = "fp-mamba")
      : model(model_of(context, name)),
        training(*model, task, context,
                 {.steps = 100, .batch_size = kLanes, .length = kLength, .lr = 1e-2}) {}
  std::string save(const Folder& folder) {
    save_checkpoint(folder.file("c"), *model, training.optimiser(), {.step = training.last().step},
                    training.carried());
    return folder.file("c");
  }
  void load(const std::string& checkpoint) {
    SequenceModel::State carried = training.carried_shapes();
    const CheckpointState state =
        load_checkpoint(checkpoint, *model, &training.optimiser(), nullptr, &carried);
    training.go_on(state.step, state.skipped, state.seconds, std::move(carried));
  }
};

}  // namespace

TEST_CASE("carried: steps of training see what one long sequence shows, until they start anew") {
  const Context context = test_context();
  const Lanes task;
  for (const ModelKind& kind : kinds_here()) {
    if (kind.caches) continue;
    INFO(kind.name);
    const auto model = model_of(context, kind.name);
    Training training(*model, task, context, kFrozen);
    const std::vector<double> first = losses(training, kBatches),
                              second = losses(training, kBatches);
    const LengthResult whole =
        evaluate(*model, task, context, task.text(kLanes, kBatches * kLength, kBatches * kLength));
    check_close("carried", std::vector{mean(first)}, std::vector{whole.metric("nats")},
                kDouble ? 1e-9 : 2e-5);
    check_close("anew", second, first, kDouble ? 1e-12 : 1e-6);
    // Each from a state of its own is another matter.
    Lanes cut;
    cut.carried = false;
    Training apart(*model, cut, context, kFrozen);
    const std::vector<double> each = losses(apart, kBatches);
    CHECK(std::abs(each[0] - first[0]) < 1e-6);
    CHECK(std::abs(mean(each) - mean(first)) > 1e-4);
  }
}

TEST_CASE("carried: training goes on from a checkpoint with the same bits") {
  for (const char* name : {"mamba", "fp-mamba"}) {
    const Context context = test_context();
    Run straight(context, name), first(context, name), second(context, name);
    const std::vector<double> all = losses(straight.training, 7);
    const std::vector<double> before = losses(first.training, 3);
    const Folder folder;
    second.load(first.save(folder));
    const std::vector<double> after = losses(second.training, 4);
    CHECK(std::equal(before.begin(), before.end(), all.begin()));
    CHECK(std::equal(after.begin(), after.end(), all.begin() + 3));
    CHECK(same_bits(values_of(*second.model), values_of(*straight.model)));
  }
}

TEST_CASE("carried: a checkpoint without the state of the model, or with another's, is refused") {
  const Context context = test_context();
  Run run(context), victim(context);
  losses(run.training, 2);
  const Folder folder;
  const std::string file = run.save(folder) + "/carried.safetensors";
  Run other(context, "mamba");
  losses(other.training, 2);
  const Folder elsewhere;
  const std::string foreign = file_bytes(other.save(elsewhere) + "/carried.safetensors");
  const std::string sound = file_bytes(file);
  const auto before = values_of(*victim.model);
  write_file(file, foreign);
  check_refused<FormatError>("carried.safetensors", [&] { victim.load(folder.file("c")); });
  write_file(file, sound.substr(0, sound.size() - 1));
  check_refused<FormatError>("carried.safetensors", [&] { victim.load(folder.file("c")); });
  std::filesystem::remove(file);
  check_refused<FileError>("carried.safetensors", [&] { victim.load(folder.file("c")); });
  CHECK(same_bits(values_of(*victim.model), before));
  CHECK(victim.training.carried()->empty());
  // The weights alone need none.
  load_checkpoint(folder.file("c"), *victim.model, nullptr);
  CHECK(same_bits(values_of(*victim.model), values_of(*run.model)));
  // Nothing to carry yet is a state too.
  Run fresh(context);
  victim.load(fresh.save(folder));
  CHECK(victim.training.carried()->empty());
}

TEST_CASE("carried: evaluation of a text depends neither on windows nor on other lanes") {
  const Context context = test_context();
  Lanes task;
  for (const char* name : {"fp-mamba", "mamba", "lstm"}) {
    INFO(std::string(name));
    const auto model = model_of(context, name);
    const auto nats_of = [&](int64_t lanes, int64_t window) {
      return evaluate(*model, task, context, task.text(lanes, 40, window)).metric("nats");
    };
    const double whole = nats_of(2, 40);
    for (const int64_t window : {1, 7, 16}) CHECK(std::abs(nats_of(2, window) - whole) < 2e-5);
    double alone = nats_of(1, 16) / 2;
    task.first_lane = 1;
    alone += nats_of(1, 7) / 2;
    task.first_lane = 0;
    CHECK(std::abs(alone - whole) < 2e-5);
    Reading apart = task.text(2, 40, 7);
    apart.carries = false;
    CHECK(std::abs(evaluate(*model, task, context, apart).metric("nats") - whole) > 1e-4);
  }
}

TEST_CASE("carried: batches of one step, one after the other, are one batch of all") {
  const Context context = test_context();
  // Lanes 0 to 3 at once, or two and two.
  struct Halves : Lanes {
    Halves() { carried = false; }
    Batch training_batch(const Context& context, uint64_t, int64_t number, int64_t B,
                         int64_t length) const override {
      Lanes half = *this;
      half.first_lane = number * B % 4;
      return half.at(context, B, 0, length);
    }
  } task;
  std::vector<double> whole, parts;
  for (const int64_t accumulate : {1, 2}) {
    const auto model = model_of(context, "mamba");
    Training training(*model, task, context,
                      {.steps = 2,
                       .batch_size = 4 / accumulate,
                       .accumulate = accumulate,
                       .length = kLength,
                       .lr = 1e-2});
    std::vector<double>& numbers = accumulate == 1 ? whole : parts;
    for (int step = 0; step < 2; ++step) {
      const StepMetrics& metrics = training.step();
      numbers.insert(numbers.end(), {metrics.loss, metrics.accuracy, metrics.grad_norm});
    }
  }
  check_close("loss, accuracy, gradient", parts, whole, 1e-4);
  CHECK(whole[3] != whole[0]);
  // Carried, two batches of a step are those of two steps.
  const Lanes lanes;
  std::vector<double> by_twos, by_ones;
  for (const int64_t accumulate : {1, 2}) {
    const auto model = model_of(context, "mamba");
    TrainOptions options = kFrozen;
    options.accumulate = accumulate;
    Training training(*model, lanes, context, options);
    (accumulate == 1 ? by_ones : by_twos) = losses(training, kBatches / accumulate);
  }
  check_close("steps of two", by_twos,
              std::vector{(by_ones[0] + by_ones[1]) / 2, (by_ones[2] + by_ones[3]) / 2}, 1e-6);
}

TEST_CASE("carried: what cannot go together is refused, and a skipped step carries nothing on") {
  const Context context = test_context();
  Run run(context, "mamba");
  const auto refuses = [&](auto change) {
    TrainOptions options = kFrozen;
    change(options);
    Training training(*run.model, run.task, context, options);
  };
  check_refused<UsageError>("curriculum", [&] {
    refuses([](TrainOptions& o) { o.curriculum = {.from = 2, .share = 0.5}; });
  });
  check_refused<ValueError>("accumulate",
                            [&] { refuses([](TrainOptions& o) { o.accumulate = 0; }); });
  check_refused<ValueError>("2^40", [&] {
    refuses([](TrainOptions& o) { o.steps = int64_t{1} << 36, o.accumulate = 1 << 5; });
  });
  // A step whose loss is no number, with the next one.
  const Tensor& weight = run.model->parameter("norm.weight").value;
  const auto skip = [&] {
    const real kept = exchange_element(weight, 0, std::numeric_limits<real>::quiet_NaN());
    const int64_t skipped = run.training.last().skipped;
    CHECK(run.training.step().skipped == skipped + 1);
    exchange_element(weight, 0, kept);
  };
  const auto first = [&] { return run.training.carried()->at(0).at(0).to_vector(); };
  losses(run.training, 1);
  const auto before = first();
  skip();
  CHECK(same_bits(first(), before));
  losses(run.training, kBatches - 2);
  CHECK(!same_bits(first(), before));
  skip();  // the first batch of the text's second reading
  CHECK(run.training.carried()->empty());
}

}  // namespace fprnn::tests
