#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/tasks/run/examples.h>
#include <nlohmann/json.hpp>

namespace fprnn {

namespace {

std::string text_of(const Task& task, std::span<const int32_t> tokens) {
  std::string text;
  for (const int32_t token : tokens)
    text.append(text.empty() ? "" : " ").append(task.name_of(token));
  return text;
}

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void dump_examples(const Task& task, const TrainOptions& options, int64_t examples,
                   const std::function<void(const std::string& line)>& take) {
  const Context host = Context::cpu({.threads = 1});
  for (int64_t number = 0; examples > 0; ++number) {
    const int64_t step = number / options.accumulate;
    const Batch batch = task.training_batch(host, options.seed, number, options.batch_size,
                                            length_at(options, step));
    const std::vector<int32_t> tokens = batch.tokens.to_vector(),
                               targets = batch.targets.to_vector();
    const std::vector<real> mask = batch.mask.to_vector();
    const int64_t T = batch.tokens.size(1), rows = std::min(batch.tokens.size(0), examples);
    for (int64_t row = 0; row < rows; ++row) {
      const auto part = [&](const auto& all) { return std::span(all).subspan(row * T, T); };
      take(fmt::format(R"({{"step": {}, "batch": {}, "row": {}, "text": {}, "ids": [{}], )"
                       R"("targets": [{}], "mask": [{}]}})",
                       step + 1, number % options.accumulate, row,
                       quoted(text_of(task, part(tokens))), fmt::join(part(tokens), ", "),
                       fmt::join(part(targets), ", "), fmt::join(part(mask), ", ")));
    }
    examples -= rows;
  }
}

}  // namespace fprnn
