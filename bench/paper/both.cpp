#include "both.h"

#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>

#include <algorithm>
#include <cmath>

#include "tables.h"

namespace fprnn::paper {

namespace {

enum class Does { no, yes, open };

// What one name stands for in both parts; null where there are no runs.
struct Pair {
  std::string name, model;
  const Group *first = nullptr, *second = nullptr;
  Does does_first = Does::open, does_second = Does::open;

  Does does_both() const {
    if (does_first == Does::no || does_second == Does::no) return Does::no;
    return does_first == Does::yes && does_second == Does::yes ? Does::yes : Does::open;
  }
};

Query part_of(const std::vector<std::string>& words) {
  Query query = query_of(words);
  require<FormatError>(!query.metric.empty() && query.at.size() == 1 && query.labels.size() < 2,
                       "paper", "a part of both must have a metric, a length and one pattern",
                       fmt::format("{}", fmt::join(words, " ")));
  query.trainings = true;
  return query;
}

std::string name_in(const Query& query, const std::string& label) {
  const std::string pattern = query.labels.empty() ? "*" : query.labels.front();
  return label.substr(std::min(pattern.find('*'), label.size()));
}

// An entry that names no model has the programs' own.
std::string model_of(const Entry& entry) {
  const std::string named = value_of(entry.options, "model");
  return named.empty() ? "fp-mamba" : named;
}

Does does(const Group& group, const Query& query, double least) {
  if (group.count() < group.row->seeds.size()) return Does::open;
  std::vector<double> values(group.failed.size(), 0);
  for (const Run& run : group.runs) values.push_back(value_at(run, query.metric, query.at.front()));
  const double middle = median(values);
  if (std::isnan(middle)) return Does::open;
  return middle >= least ? Does::yes : Does::no;
}

// Of each entry of either part, in the rows' order.
std::vector<Pair> pairs_of(const Both& both, const std::vector<Row>& rows,
                           const std::vector<Group>& first, const std::vector<Group>& second) {
  std::vector<Pair> pairs;
  for (const Query* query : {&both.first, &both.second})
    for (const Selected& one : selected(*query, rows)) {
      const Entry* entry = one.entry;
      const std::string name = name_in(*query, entry->label);
      auto pair = std::ranges::find(pairs, name, &Pair::name);
      if (pair == pairs.end())
        pair = pairs.insert(pairs.end(), {.name = name, .model = model_of(*entry)});
      const std::vector<Group>& groups = query == &both.first ? first : second;
      const auto group = std::ranges::find(groups, entry, &Group::entry);
      if (group == groups.end()) continue;
      (query == &both.first ? pair->first : pair->second) = &*group;
      (query == &both.first ? pair->does_first : pair->does_second) =
          does(*group, *query, both.least);
    }
  return pairs;
}

// Those that are, or are not, of the model, with that answer to both.
std::vector<const Pair*> with(const Both& both, const std::vector<Pair>& pairs, bool of_model,
                              Does answer) {
  std::vector<const Pair*> found;
  for (const Pair& pair : pairs)
    if (pair.does_both() == answer && (pair.model == both.by) == of_model &&
        std::ranges::find(both.but, pair.model) == both.but.end())
      found.push_back(&pair);
  return found;
}

std::string listed(const std::vector<const Pair*>& pairs) {
  std::vector<std::string> names;
  for (const Pair* pair : pairs) names.push_back("`" + pair->name + "`");
  return fmt::format("{}", fmt::join(names, ", "));
}

// "A5 at 64 of `K`; copying at 100 of `K`, `H1`".
std::string lacking_of(const Both& both, const std::vector<const Pair*>& pairs) {
  std::vector<std::string> texts;
  for (const auto& [query, does] :
       {std::pair(&both.first, &Pair::does_first), std::pair(&both.second, &Pair::does_second)}) {
    std::vector<const Pair*> open;
    for (const Pair* pair : pairs)
      if (pair->*does == Does::open) open.push_back(pair);
    if (!open.empty()) texts.push_back(fmt::format("{} of {}", query->title, listed(open)));
  }
  return fmt::format("{}", fmt::join(texts, "; "));
}

std::string verdict_of(const Both& both, const std::vector<Pair>& pairs) {
  const auto others = with(both, pairs, false, Does::yes);
  if (!others.empty()) return fmt::format("Refuted: {} of another model.\n", listed(others));
  const auto ours = with(both, pairs, true, Does::yes);
  auto open = ours.empty() ? with(both, pairs, true, Does::open) : std::vector<const Pair*>();
  if (ours.empty() && open.empty()) return fmt::format("Refuted: none of `{}`.\n", both.by);
  const auto others_open = with(both, pairs, false, Does::open);
  open.insert(open.end(), others_open.begin(), others_open.end());
  return open.empty() ? fmt::format("Shown: {}.\n", listed(ours))
                      : fmt::format("Open, for lack of {}.\n", lacking_of(both, open));
}

std::string cell_of(const Group* group, const Query& query) {
  return group == nullptr ? "-" : values_text(*group, query.metric, query.at.front(), true);
}

}  // namespace

Both both_of(const std::vector<std::string>& words) {
  std::vector<std::vector<std::string>> parts(1);
  for (const std::string& word : words)
    if (word == "and")
      parts.emplace_back();
    else
      parts.back().push_back(word);
  require<FormatError>(parts.size() == 3, "paper", "both must be of two parts behind and");
  Both both{.first = part_of(parts[1]), .second = part_of(parts[2]), .by = {}};
  for (const std::string& word : parts.front()) {
    const auto& [key, value] = key_and_value(word);
    if (key == "by") both.by = value;
    if (key == "but") both.but = split(value, ',');
    if (key == "least") both.least = number_in<double>(value).value_or(0);
    require<FormatError>(key == "by" || key == "but" || key == "least", "paper",
                         "both has no such word", word);
  }
  require<FormatError>(!both.by.empty() && both.least > 0, "paper",
                       "both must name a model and a share above 0: by and least", both.by,
                       both.least);
  return both;
}

std::string both_text(const Both& both, const std::vector<Row>& rows,
                      const std::vector<Run>& runs) {
  const std::vector<Group> first = groups_of(both.first, rows, runs),
                           second = groups_of(both.second, rows, runs);
  if (first.empty() && second.empty())
    return lacking(both.first, rows, runs) + lacking(both.second, rows, runs);
  const std::vector<Pair> pairs = pairs_of(both, rows, first, second);
  std::string text = fmt::format("| model | {} | {} | both |\n|---|---|---|---|\n",
                                 both.first.title, both.second.title);
  for (const Pair& pair : pairs) {
    if (pair.first == nullptr && pair.second == nullptr) continue;
    const Does does = pair.does_both();
    text += fmt::format("| `{}` | {} | {} | {} |\n", pair.name, cell_of(pair.first, both.first),
                        cell_of(pair.second, both.second),
                        does == Does::yes  ? "yes"
                        : does == Does::no ? "no"
                                           : "open");
  }
  return fmt::format("{}\n{}\n{}{}", text, verdict_of(both, pairs), origin_of(both.first, first),
                     origin_of(both.second, second));
}

}  // namespace fprnn::paper
