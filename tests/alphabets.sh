#!/usr/bin/env bash
# state_tracking with other alphabets and with pairs held out, as its user meets it: tests/alphabets.sh PROGRAM
. "$(dirname "$0")/script.sh"
export FPRNN_MODEL=lstm FPRNN_D_MODEL=8 FPRNN_TRAIN_LENGTH=4 FPRNN_BATCH_SIZE=4 FPRNN_STEPS=2000
export FPRNN_THREADS=1 FPRNN_CHECKPOINT_EVERY=50 FPRNN_EVAL_LENGTHS=4,8 FPRNN_EVAL_SEQUENCES=32


for arguments in '--group A5 --alphabet generators:4' '--group S3 --alphabet swaps' '--group Z2 --alphabet spaced:2' \
  '--group S3 --hold-out pairs:0.2' '--group S3 --alphabet swaps --hold-out cells:0.2'; do
  rm -rf a
  # shellcheck disable=SC2086
  train a $arguments --steps 20
  for word in $(tr ' ' '\n' <<<"$arguments" | grep -v -- --); do
    grep -q "\"settings\": .*\"$word\"" a/eval.json || die "$arguments: $(cat a/eval.json)"
  done
  [ "$(grep -c '"held_out": .*"not_held_out": ' a/eval.json)" -eq "$(grep -o hold-out <<<"$arguments" | wc -l | sed 's/1/2/')" ] ||
    die "$arguments: held out"
  grep -q '"longest_90": ' a/eval.json && grep -q 'longest 90' a.log || die "$arguments: no protocols"
done
grep -q '{"length": 7, "metrics": {"whole_sequences": ' a/eval.json || die "no prefixes"
train patience --model fp-mamba --d-state 4 --steps 2 --solver patience
! grep -q prefixes patience/eval.json || die "patience looks ahead"

# A run of before there were these settings goes on, to the same end; with another alphabet none does.
train whole
train before --time-limit 0.0001
[ "$(cat before/LATEST)" != "$(cat whole/LATEST)" ] || die "it was not stopped"
! grep -qE 'alphabet|hold_out' "before/$(cat before/LATEST)/state.json" || die "what is implied is in a checkpoint"
sed -i '/"alphabet"/d; /"hold_out"/d' before/config.json
refuses 'differ: alphabet' --resume before --alphabet swaps
run --resume before --time-limit 0
[ "$(result_of before)" = "$(result_of whole)" ] || die "a run of before ends otherwise"
train part --alphabet swaps --hold-out pairs:0.2 --time-limit 0.0001
for change in '--alphabet all' '--hold-out none'; do
  # shellcheck disable=SC2086
  refuses differ --resume part $change
done
run --resume part --time-limit 0

# What was trained on some elements is examined on all.
run --evaluate part --alphabet all --hold-out none --out all
grep -q '"settings": {"group": "S3"}' all/eval.json || die "all is not implied"

refuses 'A5 and S5' --group S4 --alphabet generators
refuses 'so few things' --group Z6 --alphabet swaps
refuses 'alphabets are all' --alphabet spaced:17
refuses '2 to all elements' --group A5 --alphabet generators:60
refuses 'pairs:P or cells:P' --hold-out pairs
refuses 'leave each row one' --hold-out cells:0.9
