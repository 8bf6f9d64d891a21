#!/usr/bin/env bash
# copying as its user meets it: tests/copying.sh PROGRAM
. "$(dirname "$0")/script.sh"
export FPRNN_LETTERS=4 FPRNN_STRING_LENGTHS=4,6 FPRNN_TRAIN_LENGTH=24 FPRNN_STEPS=20
export FPRNN_BATCH_SIZE=4 FPRNN_D_MODEL=8 FPRNN_D_STATE=4 FPRNN_THREADS=1 FPRNN_EVAL_LENGTHS=8,9 FPRNN_EVAL_SEQUENCES=16

for variant in copy prefix suffix; do
  run --variant $variant --out $variant
  grep -q "\"variant\": \"$variant\"" $variant/eval.json && grep -q '"free_strings": ' $variant/eval.json || die "eval.json"
done
run --evaluate copy --out same
run --evaluate copy --duplicate --out twice
grep -q '"duplicate": "true"' twice/eval.json || die "duplicate"
! diff <(grep characters same/eval.json) <(grep characters twice/eval.json) >log || die "duplicates are asked like other strings"

refuses 'copy alone' --variant suffix --duplicate
refuses 'copy, prefix, suffix' --variant duplicate
refuses 'no n-grams' --ngram 2
refuses 'all letters' --answer 2
refuses '1 to 26' --letters 27
refuses 'there must be two' --string-lengths 5
refuses 'longest example' --train-length 14
refuses 'fewest' --variant prefix --eval-lengths 9,3
refuses 'longest example' --curriculum 4,0.5
