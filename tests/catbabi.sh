#!/usr/bin/env bash
# catbabi as its user meets it: tests/catbabi.sh PROGRAM
set -euo pipefail
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export FPRNN_DEVICE=${DEVICE:-cpu} FPRNN_TASKS=1,6,7 FPRNN_STORIES=20 FPRNN_TRAIN_LENGTH=40 FPRNN_STEPS=60 FPRNN_BATCH_SIZE=4
export FPRNN_D_MODEL=8 FPRNN_D_STATE=4 FPRNN_THREADS=1 FPRNN_EVAL_LENGTHS=40 FPRNN_EXAMINED_LANES=2
export FPRNN_CHECKPOINT_EVERY=7 FPRNN_LOG_EVERY=1
# A rate at which the least validation loss comes early.
export FPRNN_LR=1 FPRNN_SCHEDULE=constant FPRNN_EVAL_EVERY=12 FPRNN_KEEP=best

die() {
  echo "FAILED: $*" >&2
  exit 1
}
# refuses CODE WORDS ARGUMENT...: that exit, a message with the words, and nothing made.
refuses() {
  local code=0
  "$program" --out no "${@:3}" >log 2>&1 || code=$?
  [ "$code" -eq "$1" ] && grep -q -- "$2" log || die "${*:3}: exit $code, $(cat log)"
  [ ! -e no ] || die "${*:3}: something was made"
}
train() { "$program" --out "$@" >log 2>&1 || die "$*: $(cat log)"; }
# What must not depend on how often a run was stopped: all but times.
result_of() {
  local last
  last="$1/$(cat "$1/LATEST")"
  cat {"$last","$1/best"}/{model,optimiser,carried}.safetensors | sha256sum
  sed -E 's/"seconds": ?[^,]*,//; s/, ?"tokens_per_second": ?[^}]*//' "$1/metrics.jsonl" | sha256sum
  grep '"length": ' "$1/eval.json" | sha256sum
}

# Stories written are stories simulated.
"$program" --synthesize babi >log 2>&1 || die "$(cat log)"
[ "$(ls babi | wc -l)" -eq 9 ] && [ "$(grep -c '^1 ' babi/qa6_train.txt)" -eq 20 ] || die "synthesize: $(ls babi)"
[ "$(grep -c '^1 ' babi/qa6_test.txt)" -eq 2 ] && grep -qP '\? \t(yes|no)\t\d' babi/qa6_valid.txt || die "qa6"
train whole
grep -q 'train: 60 stories, 300 questions' log || die "no counts: $(cat log)"
grep -q '"task_7": ' whole/eval.json && grep -q '"answers": ' whole/eval.json || die "eval.json"
env -u FPRNN_STORIES "$program" --data babi --out folder >log 2>&1 || die "$(cat log)"
[ "$(result_of whole)" = "$(result_of folder)" ] || die "a folder trains another model"
env -u FPRNN_STORIES "$program" --synthesize more --stories 3 --data-seed 1 --tasks 19 >log 2>&1 || die "$(cat log)"
[ "$(cat more/* | wc -l)" -eq 30 ] || die "options of stories"

# Killed without warning and resumed: the same bytes.
for i in 1 2 3; do
  "$program" --out "killed$i" >log 2>&1 &
  until [ -s "killed$i/metrics.jsonl" ] && [ "$(wc -l <"killed$i/metrics.jsonl")" -ge $((i * 13)) ]; do
    kill -0 $! 2>/dev/null || break
    sleep 0.002
  done
  kill -KILL $! 2>/dev/null || true
  wait $! 2>/dev/null || true
  "$program" --resume "killed$i" >log 2>&1 || die "$(cat log)"
  [ "$(result_of "killed$i")" = "$(result_of whole)" ] || die "run $i ended with other bytes"
done

# What is kept is the first of the least validation loss, and it is what is evaluated.
losses() { sed -nE 's/^\{"step": ([0-9]*),.*"validation_loss": (.*)\}$/\2 \1/p' "$1/metrics.jsonl"; }
[ "$(losses whole | wc -l)" -eq 5 ] || die "not five validation losses: $(losses whole)"
read -r loss step < <(losses whole | sort -sg -k1,1)
[ "$step" -lt 60 ] && grep -qF "\"kept\": {\"step\": $step, \"validation_loss\": $loss}" whole/eval.json || die "kept: $(grep kept whole/eval.json), not $step, $loss"
grep -q "\"step\": $step," whole/best/state.json || die "best is not of step $step"
"$program" --evaluate whole --out asked >log 2>&1 || die "$(cat log)"
cmp <(grep -v train_seconds whole/eval.json) <(grep -v train_seconds asked/eval.json) || die "asked once more it says something else"
train last --keep last
cmp -s {whole,last}/"$(cat last/LATEST)"/model.safetensors || die "--keep changes the training"
"$program" --evaluate last --out asked_last >log 2>&1 || die "$(cat log)"
! grep -q kept asked_last/eval.json || die "an evaluation of the last weights says that some were kept"
[ ! -e last/best ] && ! grep -q kept last/eval.json || die "--keep last keeps"
! cmp -s <(grep '"length": ' whole/eval.json) <(grep '"length": ' last/eval.json) || die "the last weights are evaluated"
refuses 2 'without --eval-every' --eval-every 0
# Killed after its last checkpoint and before the best was saved, which was of the same step.
train rising --lr 1e-3
cp -r rising torn && rm -r torn/best
FPRNN_LR=1e-3 "$program" --resume torn >log 2>&1 || die "$(cat log)"
[ "$(result_of rising)" = "$(result_of torn)" ] || die "the best was not saved again"

# Other stories to go on with.
cp -r babi was
sed -i 's/bathroom/kitchen/' babi/qa1_train.txt
code=0
(unset FPRNN_STORIES && "$program" --resume folder >log 2>&1) || code=$?
[ $code -eq 2 ] && grep -q "'60 stories of train, .*'60 stories of train, " log || die "other stories: exit $code, $(cat log)"
rm -r babi && mv was babi

# Other ways to read.
"$program" --evaluate whole --out same >log 2>&1 || die "$(cat log)"
cmp -s <(grep '"length": ' whole/eval.json) <(grep '"length": ' same/eval.json) || die "evaluation alone differs"
"$program" --evaluate whole --examined valid --out valid >log 2>&1 || die "$(cat log)"
! cmp -s <(grep '"length": ' whole/eval.json) <(grep '"length": ' valid/eval.json) || die "valid is test"
(unset FPRNN_D_STATE && train cut --carry-state off --model transformer)
[ ! -e "cut/$(cat cut/LATEST)/carried.safetensors" ] || die "state without carried state"
train words --lm
[ "$(result_of whole)" != "$(result_of words)" ] || die "lm changes nothing"

refuses 2 'new or empty' --synthesize babi
(ulimit -f 1 && refuses 1 'too large' --synthesize full)  # no room on the disk, as a limit on the size of files
[ -z "$(find . -name 'full*')" ] || die "half a folder: $(find . -name 'full*')"
refuses 2 'only, got 4' --tasks 4
refuses 2 'each once' --tasks 1,1
refuses 2 '1 to 20' --tasks 21
refuses 2 'such as 1,6,7' --tasks 1,
refuses 2 '100,000' --stories 0
refuses 2 'lanes' --examined-lanes 0
refuses 2 'on, off' --carry-state maybe
(unset FPRNN_D_STATE && refuses 2 'caches' --model transformer)
refuses 2 'its own stories' --data babi
unset FPRNN_STORIES
refuses 2 'its own stories' --data babi --data-seed 3
refuses 2 'without --data' --synthesize new --data babi
refuses 2 'qa2_train.txt' --data babi --tasks 2
refuses 1 'absent' --data absent
mkdir empty && refuses 2 'files of bAbI' --data empty
cp -r babi broken && sed -i '2s/\.$//' broken/qa7_valid.txt
refuses 1 "qa7_valid.txt', 2" --data broken
: >broken/qa1_train.txt
refuses 1 'must not be empty' --data broken
[ ! -e new ] || die "a refused folder was made"

# story FILE TEXT: the files of babi, one with other lines.
story() {
  rm -rf strange && cp -r babi strange
  printf '%b' "$2" >"strange/qa1_$1.txt"
}
for line in '\n' 'x' '1' '0 Mary.' '2 Mary.' '1 Mary' '1 Where?' '1 Where?\t' '1 Where?\ta b' '1 Wh?ere?\ta' '1 a.\x00b.' \
  '99999999999999999999 a.' '1 a.\n\n2 b.' '1 a.\n3 b.\n2 c.' '1 Where?\ta\tb\tc'; do
  story train "$line"
  refuses 1 "qa1_train.txt', [1-3] and" --data strange
done
export FPRNN_TASKS=1
no_question='1 Mary is in.\n1 John is in.\n'
story train "$no_question"
refuses 1 "questions in the part, got 'train'" --data strange
"$program" --data strange --lm --out words_alone >log 2>&1 || die "words alone: $(cat log)"
story test "$no_question"
refuses 1 "questions in the part, got 'test'" --data strange --lm
story valid "$no_question"
refuses 1 "questions in the part, got 'valid'" --data strange
mkdir strange/qa2_train.txt
refuses 1 'regular file' --data strange --tasks all
cp babi/qa6_train.txt strange/qa1_named_train.txt
refuses 2 'not two' --data strange
refuses 2 'must name a folder' --synthesize ''
