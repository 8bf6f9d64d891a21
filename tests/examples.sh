#!/usr/bin/env bash
# --dump and --predict as their user meets them: tests/examples.sh PROGRAM (state_tracking)
. "$(dirname "$0")/script.sh"
export FPRNN_TRAIN_LENGTH=4 FPRNN_STEPS=40 FPRNN_BATCH_SIZE=4 FPRNN_D_MODEL=8 FPRNN_D_STATE=4
export FPRNN_THREADS=1 FPRNN_EVAL_LENGTHS=4 FPRNN_EVAL_SEQUENCES=16

predict() { "$program" --predict a "$@" 2>err.log; }

"$program" --dump 9 >nine && "$program" --dump 5 >five || die "--dump"
[ "$(wc -l <nine)" -eq 9 ] && cmp -s five <(head -n 5 nine) || die "--dump prints others: $(cat nine)"
! cmp -s five <("$program" --dump 5 --seed 1) || die "the seed changes no example"
[ "$(ls)" = "$(printf 'five\nnine')" ] || die "--dump made $(ls)"

train a
sed -E 's/.*"text": "([^"]*)".*/\1/' five >words
sed -E 's/.*"ids": (\[[^]]*\]).*/\1/' five >numbers
predict <words >by_word || die "$(cat err.log)"
predict <numbers >by_number || die "$(cat err.log)"
[ "$(wc -l <by_word)" -eq 5 ] && cmp -s by_word by_number || die "words and numbers differ: $(cat by_word)"
grep -q '"answers":.*"probabilities":.*"iterations":' by_word || die "$(cat by_word)"
"$program" --predict "a/$(cat a/LATEST)" <words 2>err.log | cmp -s by_word - || die "of a checkpoint: $(cat err.log)"
predict --threads 2 <words | cmp -s by_word - || die "threads change an answer"
predict </dev/null >none && [ ! -s none ] || die "no lines, some answers"

code=0
printf 'BOS 1 2\nBOS 1 x\nBOS 1\n' | predict >some || code=$?
[ "$code" -eq 2 ] && grep -q "got 2 and 'x'" err.log && [ "$(wc -l <some)" -eq 1 ] || die "a malformed line: exit $code, $(cat some err.log)"
code=0
predict <words 2>err.log >/dev/full || code=$?
[ "$code" -eq 1 ] && grep -q 'No space' err.log || die "no room: exit $code, $(cat err.log)"

refuses 'only one of' --dump 2 --predict a
refuses 'only one of' --dump 2 --seeds 0-1
refuses 'must be an example' --dump 0
refuses 'without --out' --dump 2 --out no
refuses 'without --out' --predict a --out no
refuses 'a run directory' --predict ''
refuses 'd_model' --predict a --d-model 16
