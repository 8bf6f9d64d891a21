#!/bin/sh
# The table of what run.sh has run, in Markdown: docs/models/table.sh OUT
# A cell has the share of whole sequences that each seed has right. A group is solved if a seed has .99 at length 64.
set -eu
here=$(dirname "$0")
for run in "$1"/*/eval.json; do cat "$run"; done | awk -v rows="$here/rows" '
function text(value,  digits, shown) {  # no 0 or 1 that it is not: share_text of tasks/report/table.h
  if (value == 0 || value == 1) return value + 0
  for (digits = 3; shown + 0 == 0 || shown + 0 == 1; digits++) shown = sprintf("%." digits "f", value)
  return substr(shown, 2)
}
function value_of(key) {
  if (!match($0, "\"" key "\": [^,}]*")) return ""
  value = substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 4)
  gsub(/"/, "", value)
  return value
}
/"settings":/ { group = value_of("group") }
/^  "model":/ { model = value_of("model"); if (!(model in runs)) { order[++models] = model } runs[model]++ }
/^  "train_seconds":/ { seconds[model] += value_of("train_seconds") }
/^  "device":/ { device[model] = value_of("device") }
/"sequences": .*"whole_sequences":/ {
  right = value_of("whole_sequences")
  at = model SUBSEP group SUBSEP value_of("length")
  cell[at] = cell[at] (cell[at] == "" ? "" : " ") text(right)
  if (right > best[at]) best[at] = right
}
END {
  while ((getline line < rows) > 0) {
    split(line, word, " ")
    expected[word[1]] = word[3]
    if (word[1] in runs) listed[++count] = word[1]
    sub(/^[^ ]+ +[^ ]+ +[^ ]+ */, "", line)
    recipe[word[1]] = line
  }
  for (i = 1; i <= models; ++i) if (!(order[i] in expected)) listed[++count] = order[i]
  print "| model | options | Z2 at 16 | at 64 | S3 at 16 | at 64 | solves | expected | seconds a run |"
  print "|---|---|---|---|---|---|---|---|---|"
  for (i = 1; i <= count; ++i) {
    model = listed[i]; solves = ""; cells = ""
    for (g = 1; g <= 2; ++g) {
      group = g == 1 ? "Z2" : "S3"
      cells = cells " " cell[model, group, 16] " | " cell[model, group, 64] " |"
      if (best[model, group, 64] >= .99) solves = solves (solves == "" ? "" : ",") group
    }
    printf "| `%s` | %s |%s %s | %s | %.0f |\n", model, recipe[model] == "" ? "" : "`" recipe[model] "`", cells,
      solves == "" ? "-" : solves, model in expected ? expected[model] : "?", seconds[model] / runs[model]
  }
}'
