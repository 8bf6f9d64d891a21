#!/usr/bin/env bash
# catbabi as its user meets it: tests/catbabi.sh PROGRAM
. "$(dirname "$0")/script.sh"
export FPRNN_TASKS=1,6,7 FPRNN_STORIES=20 FPRNN_TRAIN_LENGTH=40 FPRNN_STEPS=60 FPRNN_BATCH_SIZE=4
export FPRNN_D_MODEL=8 FPRNN_D_STATE=4 FPRNN_THREADS=1 FPRNN_EVAL_LENGTHS=40 FPRNN_EXAMINED_LANES=2
export FPRNN_CHECKPOINT_EVERY=7 FPRNN_LOG_EVERY=1
# A rate at which the least validation loss comes early.
export FPRNN_LR=1 FPRNN_SCHEDULE=constant FPRNN_EVAL_EVERY=12 FPRNN_KEEP=best

# Stories written are stories simulated.
run --synthesize babi
[ "$(ls babi | wc -l)" -eq 9 ] && [ "$(grep -c '^1 ' babi/qa6_train.txt)" -eq 20 ] || die "synthesize: $(ls babi)"
[ "$(grep -c '^1 ' babi/qa6_test.txt)" -eq 2 ] && grep -qP '\? \t(yes|no)\t\d' babi/qa6_valid.txt || die "qa6"
train whole
grep -q 'train: 60 stories, 300 questions' log || die "no counts: $(cat log)"
grep -q '"task_7": ' whole/eval.json && grep -q '"answers": ' whole/eval.json || die "eval.json"
exits 0 env -u FPRNN_STORIES "$program" --data babi --out folder
[ "$(training_of whole)" = "$(training_of folder)" ] || die "a folder trains another model"
cmp -s <(grep '"length": ' whole/eval.json) <(grep '"length": ' folder/eval.json) || die "a folder asks otherwise"
exits 0 env -u FPRNN_STORIES "$program" --synthesize more --stories 3 --data-seed 1 --tasks 19
[ "$(cat more/* | wc -l)" -eq 30 ] || die "options of stories"

# Killed without warning and resumed: the same bytes.
for i in 1 2 3; do
  train_until $((i * 13)) "killed$i" || true  # a fast one has ended
  run --resume "killed$i"
  [ "$(result_of "killed$i")" = "$(result_of whole)" ] || die "run $i ended with other bytes"
done

# What is kept is the first of the least validation loss, and it is what is evaluated.
losses() { sed -nE 's/^\{"step": ([0-9]*),.*"validation_loss": (.*)\}$/\2 \1/p' "$1/metrics.jsonl"; }
[ "$(losses whole | wc -l)" -eq 5 ] || die "not five validation losses: $(losses whole)"
read -r loss step < <(losses whole | sort -sg -k1,1)
[ "$step" -lt 60 ] && grep -qF "\"kept\": {\"step\": $step, \"validation_loss\": $loss}" whole/eval.json || die "kept: $(grep kept whole/eval.json), not $step, $loss"
grep -q "\"step\": $step," whole/best/state.json || die "best is not of step $step"
run --evaluate whole --out asked
same_evaluation whole asked || die "asked once more it says something else"
train last --keep last
cmp -s {whole,last}/"$(cat last/LATEST)"/model.safetensors || die "--keep changes the training"
run --evaluate last --out asked_last
! grep -q kept asked_last/eval.json || die "an evaluation of the last weights says that some were kept"
[ ! -e last/best ] && ! grep -q kept last/eval.json || die "--keep last keeps"
! cmp -s <(grep '"length": ' whole/eval.json) <(grep '"length": ' last/eval.json) || die "the last weights are evaluated"
refuses 'without --eval-every' --eval-every 0
# Killed after its last checkpoint and before the best was saved, which was of the same step.
train rising --lr 1e-3
cp -r rising torn && rm -r torn/best
FPRNN_LR=1e-3 run --resume torn
[ "$(result_of rising)" = "$(result_of torn)" ] || die "the best was not saved again"

# Other stories to go on with.
cp -r babi was
sed -i 's/bathroom/kitchen/' babi/qa1_train.txt
(unset FPRNN_STORIES && refuses "'60 stories of train, .*'60 stories of train, " --resume folder)
rm -r babi && mv was babi

# Other ways to read.
run --evaluate whole --examined valid --out valid
! cmp -s <(grep '"length": ' whole/eval.json) <(grep '"length": ' valid/eval.json) || die "valid is test"
(unset FPRNN_D_STATE && train cut --carry-state off --model transformer)
[ ! -e "cut/$(cat cut/LATEST)/carried.safetensors" ] || die "state without carried state"
train words --lm
[ "$(result_of whole)" != "$(result_of words)" ] || die "lm changes nothing"

refuses 'new or empty' --synthesize babi
(ulimit -f 1 && refuses 1 'too large' --synthesize full)  # no room on the disk, as a limit on the size of files
[ -z "$(find . -name 'full*')" ] || die "half a folder: $(find . -name 'full*')"
refuses 'only, got 4' --tasks 4
refuses 'each once' --tasks 1,1
refuses '1 to 20' --tasks 21
refuses 'such as 1,6,7' --tasks 1,
refuses '100,000' --stories 0
refuses 'lanes' --examined-lanes 0
refuses 'on, off' --carry-state maybe
(unset FPRNN_D_STATE && refuses 'caches' --model transformer)
refuses 'its own stories' --data babi
unset FPRNN_STORIES
refuses 'its own stories' --data babi --data-seed 3
refuses 'without --data' --synthesize new --data babi
refuses 'qa2_train.txt' --data babi --tasks 2
refuses 1 'absent' --data absent
mkdir empty && refuses 'files of bAbI' --data empty
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
run --data strange --lm --out words_alone
story test "$no_question"
refuses 1 "questions in the part, got 'test'" --data strange --lm
story valid "$no_question"
refuses 1 "questions in the part, got 'valid'" --data strange
mkdir strange/qa2_train.txt
refuses 1 'regular file' --data strange --tasks all
cp babi/qa6_train.txt strange/qa1_named_train.txt
refuses 'not two' --data strange
refuses 'must name a folder' --synthesize ''
