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
