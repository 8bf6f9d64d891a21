// Which runs a table or chart of docs/paper.md is of, and what is measured of each.
#pragma once

#include <fprnn/tasks/report/run_groups.h>

#include "runs.h"

namespace fprnn::paper {

// The words of a marker.
struct Query {
  std::vector<std::string> rows;         // row=2,3
  std::string scale = "gpu";             // scale=cpu
  std::vector<std::string> labels = {};  // labels=A5-*,K: empty: all
  std::vector<int64_t> at = {};          // at=16,64: lengths; empty: all that were evaluated
  // metric=strings, of each length; or iterations, or one of a protocol's figures. Empty: the main one.
  std::string metric = {};
  bool trainings = false;  // of=trainings: no evaluations
  bool counts = false;     // show=solved: how many seeds reach .99, in place of their values
  // show=names, of a chart against something: a mark for each entry with its label, in the style of its
  // model.
  bool names = false;
  std::string x = {}, y = {};  // of a chart against something else than the length
  std::string title = {};      // title=Time_to_train, _ for a space
};
// FormatError: another word, or no row.
Query query_of(const std::vector<std::string>& words);

// A word's parts around its first =.
std::pair<std::string, std::string> key_and_value(const std::string& word);

// The entries that are selected, with or without runs, in the order of the rows.
struct Selected {
  const Row* row;
  const Entry* entry;
};
std::vector<Selected> selected(const Query& query, const std::vector<Row>& rows);

// The runs of one entry of a row, whatever their seeds, by seed.
struct Group {
  const Row* row;
  const Entry* entry;
  std::vector<Run> runs = {};  // those with results
  std::vector<Run> failed = {};

  size_t count() const { return runs.size() + failed.size(); }
  RunGroup as_seeds() const;  // named by the label
};
// In the order of the rows, without groups that have no run. Only runs of a row's present commands are
// in them.
std::vector<Group> groups_of(const Query& query, const std::vector<Row>& rows,
                             const std::vector<Run>& runs);

// "Lacking: ..", a line; empty where every seed of every entry has a line.
std::string lacking(const Query& query, const std::vector<Row>& rows, const std::vector<Run>& runs);
// What a table's runs are of, the line below it: commands, days, commits, machines. Empty without groups.
std::string origin_of(const Query& query, const std::vector<Group>& groups);

// Of a run: parameters, steps, seconds of its training; longest, the longest length with .90; METRIC or
// iterations @LENGTH; a protocol's figure; the number that an option of its command has. NaN: it has none.
double measured(const Run& run, const std::string& name);
// A metric, or iterations, at a length; at 0 what is measured of no length.
double value_at(const Run& run, const std::string& metric, int64_t length);

}  // namespace fprnn::paper
