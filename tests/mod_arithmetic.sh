#!/usr/bin/env bash
# mod_arithmetic as its user meets it: tests/mod_arithmetic.sh PROGRAM
set -euo pipefail
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export FPRNN_DEVICE=${DEVICE:-cpu} FPRNN_THREADS=1

die() {
  echo "FAILED: $*" >&2
  exit 1
}

for preset in quick quick-even-pairs quick-cycle gpu paper; do
  "$program" --preset $preset --dump 1 >row || die "preset $preset"
  [ "$(grep -cE '"mask": \[0(, 0)*, 1(, 0)+\]' row)" -eq 1 ] || die "$preset does not ask for one answer: $(cat row)"
done

# The authors' evaluation, of many lengths and by length.
export FPRNN_MODEL=lstm FPRNN_D_MODEL=8 FPRNN_BATCH_SIZE=4
export FPRNN_TEST_FROM=40 FPRNN_EVAL_LENGTHS=256 FPRNN_EVAL_SEQUENCES=500
"$program" --variant brackets --steps 2000 --time-limit 0.0001 --out run >log 2>&1 || die "$(cat log)"
grep -q 'the 500 sequences of length 256 at most, by length' log || die "no table by length: $(cat log)"
[ "$(grep -cE '\{"length": (64|96|128|160|192|224|256), "metrics": \{"sequences": ' run/eval.json)" -eq 7 ] || die "bands: $(cat run/eval.json)"

# What was trained with * is examined without; the constant answer is then right at chance.
constant_of() { grep -o '"constant": [0-9.]*' "$1/eval.json" | grep -o '[0-9.]*$'; }
"$program" --evaluate run --operators plus-minus --out without >log 2>&1 || die "$(cat log)"
grep -q '"operators": "plus-minus"' without/eval.json || die "$(cat without/eval.json)"
awk "BEGIN { exit !($(constant_of run) > 0.26 && $(constant_of without) < 0.24) }" || die "constants $(constant_of run) and $(constant_of without)"
if "$program" --resume run --operators plus-minus >log 2>&1; then die "resumed with other operators"; fi
grep -q 'differ: operators' log || die "$(cat log)"
if "$program" --evaluate run --variant plain >log 2>&1; then die "another variant is another model"; fi
grep -q 'variant' log || die "$(cat log)"
