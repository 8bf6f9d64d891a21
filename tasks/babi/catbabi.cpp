#include <fprnn/core/check.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/babi/catbabi.h>
#include <fprnn/tasks/fingerprint.h>

#include <algorithm>
#include <numeric>

namespace fprnn::babi {

namespace {

constexpr int64_t kValidationLanes = 128;

// The questions of a task that are answered right; of all for 0.
Mean right_of(const Answered& answered, int64_t task) {
  const Batch& batch = answered.batch;
  const std::vector<int32_t> given = answered.answers.to_vector(),
                             wanted = batch.targets.to_vector();
  const std::vector<real> asked = batch.counted.to_vector();
  Mean mean;
  for (size_t i = 0; i < asked.size(); ++i)
    if (asked[i] == static_cast<real>(task)) mean.add(given[i] == wanted[i] ? 1 : 0);
  return mean;
}

Lanes in_order_of_files(const std::vector<Story>& stories, int64_t lanes, int64_t length) {
  std::vector<int64_t> order(stories.size());
  std::iota(order.begin(), order.end(), 0);
  return {stories, order, lanes, length};
}

}  // namespace

Catbabi::Catbabi(Stories stories, const CatbabiOptions& options)
    : stories_(std::move(stories)), options_(options) {
  check_batch("examined_lanes", options.examined_lanes, 1);
  check_part(Part::train, options.loss);
  check_part(options.examined, Loss::answers);
}

void Catbabi::check_part(Part part, Loss loss) const {
  const std::vector<Story>& stories = stories_.of(part);
  const auto asks = [&](const Story& story) {
    return std::ranges::count(story.words, stories_.question_mark()) > 0;
  };
  require<FormatError>(!stories.empty(), "catbabi", "there must be stories of the part",
                       babi::name_of(part));
  require<FormatError>(loss == Loss::words || std::ranges::any_of(stories, asks), "catbabi",
                       "there must be questions in the part", babi::name_of(part));
}

int64_t Catbabi::vocabulary() const { return static_cast<int64_t>(stories_.vocabulary().size()); }

Batch Catbabi::batch_of(const Lanes& lanes, const Context& context, int64_t i, Loss loss) const {
  Batch batch = lanes.batch(context, i, stories_.question_mark(), loss);
  batch.starts = batch.starts || !options_.carry;
  return batch;
}

Batch Catbabi::sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const {
  const std::vector<Story>& train = stories_.of(Part::train);
  const Lanes pass(train, shuffled(static_cast<int64_t>(train.size()), rng), B, length);
  return batch_of(pass, context, 0, options_.loss);
}

Batch Catbabi::training_batch(const Context& context, uint64_t seed, int64_t number, int64_t B,
                              int64_t length) const {
  if (!passes_ || passes_->seed != seed || passes_->B != B || passes_->length != length ||
      number < *(passes_->begins.end() - std::min<size_t>(2, passes_->begins.size())))
    passes_.emplace(Passes{.seed = seed, .B = B, .length = length});
  const std::vector<Story>& train = stories_.of(Part::train);
  std::vector<int64_t>& begins = passes_->begins;
  while (begins.back() <= number) {
    const auto pass = static_cast<int64_t>(begins.size()) - 1;
    const auto order = shuffled(static_cast<int64_t>(train.size()), training_stream(seed, pass));
    passes_->last = std::make_unique<Lanes>(train, order, B, length);
    begins.push_back(begins.back() + passes_->last->batches());
  }
  const int64_t i = number - *(begins.end() - 2);
  Batch batch = batch_of(*passes_->last, context, i, options_.loss);
  const bool asks = max_abs(batch.mask) > 0;
  return asks ? batch : batch_of(*passes_->last, context, i, Loss::words);
}

std::string Catbabi::data() const {
  Fingerprint fingerprint;
  for (const std::string& word : stories_.vocabulary()) fingerprint.add(word);
  const std::vector<Story>& train = stories_.of(Part::train);
  for (const Story& story : train) {
    fingerprint.add(static_cast<uint64_t>(story.words.size()));
    fingerprint.add(story.words);
  }
  return std::to_string(train.size()) + " stories of train, " + std::to_string(vocabulary()) +
         " tokens, fingerprint " + fingerprint.text();
}

Reading Catbabi::part_in_lanes(Part part, int64_t lanes, int64_t length) const {
  const auto laid = std::make_shared<Lanes>(in_order_of_files(stories_.of(part), lanes, length));
  return {.length = length,
          .sequences = lanes,
          .batches = laid->batches(),
          .carries = options_.carry,
          .batch = [this, laid](const Context& context, int64_t i) {
            return batch_of(*laid, context, i, options_.loss);
          }};
}

std::optional<Reading> Catbabi::reading(int64_t length) const {
  return part_in_lanes(options_.examined, options_.examined_lanes, length);
}
std::optional<Reading> Catbabi::validation(int64_t length) const {
  check_part(Part::valid, options_.loss);
  return part_in_lanes(Part::valid, kValidationLanes, length);
}

std::vector<Metric> Catbabi::metrics() const {
  std::vector<Metric> metrics = {
      {.name = "answers", .over = tokens, .caption = "share of answers right"}};
  const std::vector<int64_t> tasks = stories_.tasks();
  for (const int64_t task : tasks)
    if (tasks.size() > 1)
      metrics.push_back(
          {.name = "task_" + std::to_string(task),
           .over = [task](const Answered& answered) { return right_of(answered, task); }});
  metrics.push_back({.name = "nats", .over = nats});
  return metrics;
}

}  // namespace fprnn::babi
