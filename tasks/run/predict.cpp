#include <fprnn/core/text.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/run/predict.h>
#include <fprnn/tasks/run/train.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace fprnn {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLongestLine = size_t{1} << 24;  // bytes

// False: there is none. The last one may lack its end.
bool read_line(std::FILE* stream, std::string& line, int64_t number) {
  line.clear();
  for (int c = 0; (c = std::getc(stream)) != '\n';) {
    if (c == EOF) {
      require<FileError>(std::ferror(stream) == 0, "predict", "the lines must be readable: line",
                         number);
      return !line.empty();
    }
    require<UsageError>(line.size() < kLongestLine, "predict",
                        "a line must have at most 16 MiB: line", number);
    line += static_cast<char>(c);
  }
  return true;
}

// Of the largest of some logits, in six digits.
Json probability_of(std::span<const real> logits, int32_t largest) {
  if (largest < 0) return nullptr;
  double sum = 0;
  for (const real logit : logits) sum += std::exp(double(logit) - double(logits[largest]));
  return std::isfinite(sum) ? Json(std::round(1e6 / sum) / 1e6) : Json();
}

}  // namespace

Words::Words(const Task& task) {
  for (int32_t token = 0; token < task.vocabulary(); ++token)
    token_of_.emplace(task.name_of(token), token);
}

std::optional<int32_t> Words::token(std::string_view word, bool is_number) const {
  if (is_number) {
    const auto token = number_in<int32_t>(word);
    const bool there = token && *token >= 0 && std::cmp_less(*token, token_of_.size());
    return there ? token : std::nullopt;
  }
  const auto found = token_of_.find(word);
  return found == token_of_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<int32_t> Words::tokens(std::string_view line, int64_t number) const {
  constexpr std::string_view kSpaces = " \t\r\v\f";
  line.remove_prefix(std::min(line.find_first_not_of(kSpaces), line.size()));
  line = line.substr(0, line.find_last_not_of(kSpaces) + 1);
  const bool numbers = line.starts_with('[') && line.ends_with(']');
  if (numbers) line = line.substr(1, line.size() - 2);
  const std::string between = std::string(kSpaces) + (numbers ? "," : "");
  std::vector<int32_t> tokens;
  for (size_t at = line.find_first_not_of(between); at != line.npos;
       at = line.find_first_not_of(between, at)) {
    const size_t end = std::min(line.find_first_of(between, at), line.size());
    const std::string_view word = line.substr(at, end - at);
    const std::optional<int32_t> found = token(word, numbers);
    require<UsageError>(found.has_value(), "predict",
                        "each word must be a token, as --dump prints them: line and word", number,
                        shortened(printable(word), 40));
    tokens.push_back(*found);
    at = end;
  }
  require<UsageError>(!tokens.empty(), "predict", "there must be a word in each line: line",
                      number);
  return tokens;
}

std::string prediction(SequenceModel& model, const Task& task, const Context& context,
                       std::span<const int32_t> tokens, int64_t number) {
  const auto T = static_cast<int64_t>(tokens.size());
  NoGrad tape(context);
  forget_solves(model);
  const Tensor logits = model.forward(tape, IntTensor(context, {1, T}, tokens)).value();
  const std::vector<int32_t> answers = argmax(logits).to_vector();
  const std::vector<real> values = logits.to_vector();
  const Solves solves = last_solves(model);
  Json names = Json::array(), probabilities = names;
  const size_t V = values.size() / tokens.size();
  for (size_t t = 0; t < tokens.size(); ++t) {
    names.push_back(answers[t] < 0 ? Json() : Json(task.name_of(answers[t])));
    probabilities.push_back(probability_of(std::span(values).subspan(t * V, V), answers[t]));
  }
  const Json line = {{"line", number},
                     {"ids", tokens},
                     {"answers", names},
                     {"answer_ids", answers},
                     {"probabilities", probabilities},
                     {"iterations", solves.iterations_mean},
                     {"unconverged", solves.unconverged}};
  return line.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void predict(SequenceModel& model, const Task& task, const Context& context, std::FILE* lines,
             const std::function<void(const std::string& line)>& say) {
  const Words words(task);
  std::string line;
  for (int64_t number = 1; read_line(lines, line, number); ++number) {
    const std::vector<int32_t> tokens = words.tokens(line, number);
    with_shortage_named("predict", 1, std::ssize(tokens),
                        [&] { say(prediction(model, task, context, tokens, number)); });
  }
}

}  // namespace fprnn
