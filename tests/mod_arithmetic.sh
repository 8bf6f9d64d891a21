#!/usr/bin/env bash
# mod_arithmetic as its user meets it: tests/mod_arithmetic.sh PROGRAM
. "$(dirname "$0")/script.sh"
export FPRNN_THREADS=1

for preset in quick quick-even-pairs quick-cycle gpu paper; do
  run --preset $preset --dump 1
  [ "$(grep -cE '"mask": \[0(, 0)*, 1(, 0)+\]' log)" -eq 1 ] || die "$preset does not ask for one answer: $(cat log)"
done

# The authors' evaluation, of many lengths and by length.
export FPRNN_MODEL=lstm FPRNN_D_MODEL=8 FPRNN_BATCH_SIZE=4
export FPRNN_TEST_FROM=40 FPRNN_EVAL_LENGTHS=256 FPRNN_EVAL_SEQUENCES=500
run --variant brackets --steps 2000 --time-limit 0.0001 --out run
grep -q 'the 500 sequences of length 256 at most, by length' log || die "no table by length: $(cat log)"
[ "$(grep -cE '\{"length": (64|96|128|160|192|224|256), "metrics": \{"sequences": ' run/eval.json)" -eq 7 ] || die "bands: $(cat run/eval.json)"

# What was trained with * is examined without; the constant answer is then right at chance.
constant_of() { grep -o '"constant": [0-9.]*' "$1/eval.json" | grep -o '[0-9.]*$'; }
run --evaluate run --operators plus-minus --out without
grep -q '"operators": "plus-minus"' without/eval.json || die "$(cat without/eval.json)"
awk "BEGIN { exit !($(constant_of run) > 0.26 && $(constant_of without) < 0.24) }" || die "constants $(constant_of run) and $(constant_of without)"
refuses 'differ: operators' --resume run --operators plus-minus
refuses variant --evaluate run --variant plain
