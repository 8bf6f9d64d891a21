#!/usr/bin/env bash
# state_tracking by other protocols, and trained models run otherwise, as its user meets them: tests/protocols.sh PROGRAM
set -euo pipefail
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export FPRNN_DEVICE=${DEVICE:-cpu} FPRNN_GROUP=S3 FPRNN_D_MODEL=8 FPRNN_TRAIN_LENGTH=4 FPRNN_BATCH_SIZE=8
export FPRNN_THREADS=1 FPRNN_EVAL_LENGTHS=4,8 FPRNN_EVAL_SEQUENCES=64

die() {
  echo "FAILED: $*" >&2
  exit 1
}
# train NAME ARGUMENT...: a run into the folder.
train() { "$program" --out "$@" >"$1.log" 2>&1 || die "$*: $(cat "$1.log")"; }
# refuses WORDS ARGUMENT...: exit 2, a message with the words, and nothing made.
refuses() {
  local code=0
  "$program" --out no "${@:2}" >log 2>&1 || code=$?
  [ "$code" -eq 2 ] && grep -q -- "$1" log || die "${*:2}: exit $code, $(cat log)"
  [ ! -e no ] || die "${*:2}: something was made"
}

# PD-SSM's: lengths from 3, and one label a row.
env -u FPRNN_GROUP -u FPRNN_TRAIN_LENGTH "$program" --preset a5-pd-ssm --dump 200 >rows
[ "$(grep -cE '"mask": \[0(, 0){2,}, 1(, 0)*\]' rows)" -eq 200 ] || die "not one label a row from length 3: $(head -n 1 rows)"
[ "$(grep -oE '"mask": .*, 1' rows | sort -u | wc -l)" -gt 20 ] || die "rows have few lengths"

last='--model lstm --shortest 2 --supervise last'
# shellcheck disable=SC2086
train last $last --steps 20
grep -q '"settings": {"group": "S3", "shortest": "2", "supervise": "last"}' last/eval.json || die "settings: $(cat last/eval.json)"
grep -q '"caption": "last tokens right"' last/eval.json && grep -q '"metrics": {"last_token": ' last/eval.json ||
  die "the main metric: $(cat last/eval.json)"
# shellcheck disable=SC2086
train part $last --steps 2000 --time-limit 0.0001
for change in '--shortest 3' '--supervise all'; do
  # shellcheck disable=SC2086
  if "$program" --resume part $change >log 2>&1; then die "resumed with $change"; fi
  grep -q 'differ' log || die "$change: $(cat log)"
done
"$program" --evaluate last --shortest 0 --supervise all --out all >log 2>&1 || die "$(cat log)"
grep -q '"metrics": {"whole_sequences": ' all/eval.json || die "an evaluation of all labels: $(cat all/eval.json)"
refuses 'at most the trained length: shortest and length, got 5 and 4' --shortest 5
refuses 'at most the trained length' --shortest 3 --curriculum 2,0.5
refuses 'a length from 1' --shortest -1
refuses 'supervise must be all, last' --supervise first

# A run of a preset that has since been given settings goes on without them.
train before --preset a5-pd-ssm --group A5 --model lstm --steps 2000 --warmup 10 --end-lr 0 --shortest 0 --supervise all --time-limit 0.0001
sed -i '/"end_lr"/d; /"shortest"/d; /"supervise"/d' before/config.json
env -u FPRNN_GROUP "$program" --resume before --time-limit 0.0001 >log 2>&1 || die "a run of before: $(cat log)"

# A trained model, run otherwise.
metrics_of() { grep -o '"metrics": {[^}]*}' "$1/eval.json"; }
# mean_iterations NAME: at the longest length.
mean_iterations() { grep -o '"iterations_mean": [0-9.]*' "$1/eval.json" | tail -n 1 | grep -o '[0-9.]*$'; }
# evaluated NAME WORDS ARGUMENT...: an evaluation of the run fp into the folder says WORDS of what it changed.
evaluated() {
  "$program" --evaluate fp --out "$1" "${@:3}" >log 2>&1 || die "${*:3}: $(cat log)"
  grep -qF "\"evaluated_with\": {$2}" "$1/eval.json" || die "${*:3}: $(cat "$1/eval.json")"
  grep -q "^evaluated with $(sed 's/[",_:]/ /g; s/  */ /g; s/^ //; s/ $//' <<<"$2")\$" log || die "${*:3}: $(cat log)"
}
train fp --d-state 4 --steps 60
"$program" --evaluate fp --max-iterations 1000 --out own >log 2>&1 || die "$(cat log)"
cmp <(grep -v train_seconds fp/eval.json) <(grep -v train_seconds own/eval.json) || die "its own cap makes another evaluation"
evaluated cap '"max_iterations": "1"' --max-iterations 1
[ "$(metrics_of cap)" != "$(metrics_of fp)" ] || die "one iteration answers as many do"
evaluated coarse '"tolerance": "0.1"' --tolerance 0.1
awk "BEGIN { exit !($(mean_iterations coarse) < $(mean_iterations fp)) }" || die "a coarse tolerance takes as many iterations"
evaluated parallel '"solver": "parallel"' --solver parallel
grep -q '"solver": "parallel",' parallel/eval.json || die "the solver: $(cat parallel/eval.json)"
evaluated bare '"additive_input": "false"' --additive-input false
[ "$(metrics_of bare)" != "$(metrics_of fp)" ] || die "inputs add nothing, and all is as before"
"$program" --compare fp,cap,bare >log 2>&1 || die "$(cat log)"
grep -q '^bare: evaluated with additive input false$' log && grep -q '^cap: evaluated with' log || die "$(cat log)"
for change in '--d-model 16' '--d-state 8' '--layers 2' '--mixer dplr' '--group Z6' '--glu-in-loop false' '--model mamba'; do
  key=$(cut -d ' ' -f 1 <<<"${change#--}" | tr - _)
  # shellcheck disable=SC2086
  refuses "$key" --evaluate fp $change
done

# What weights fit anyway is still of the training that goes on.
train none --d-state 4 --steps 2000 --additive-input false --time-limit 0.0001
if "$program" --resume none --additive-input true >log 2>&1; then die "resumed with additive input"; fi
grep -q 'differ: additive_input' log || die "$(cat log)"
"$program" --evaluate none --additive-input true --out added >log 2>&1 || die "$(cat log)"
grep -qF '"evaluated_with": {"additive_input": "true"}' added/eval.json || die "$(cat added/eval.json)"
