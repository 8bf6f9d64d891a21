#!/usr/bin/env bash
# tests/kill.sh PROGRAM [ARGUMENT...]: runs that are killed without warning and resumed end with the bytes of one that was not.
. "$(dirname "$0")/script.sh"
arguments=("${@:2}")
export FPRNN_STEPS=60 FPRNN_BATCH_SIZE=4 FPRNN_D_MODEL=8 FPRNN_THREADS=1
export FPRNN_EVAL_SEQUENCES=16 FPRNN_CHECKPOINT_EVERY=7 FPRNN_LOG_EVERY=1

train whole "${arguments[@]}"
killed=0
for after in 1 17 41; do # lines of metrics.jsonl
  if train_until $after "at$after" "${arguments[@]}"; then killed=$((killed + 1)); fi
  run --resume "at$after"
  [ "$(result_of "at$after")" = "$(result_of whole)" ] || die "the run that was killed after $after lines ended with other bytes"
done
[ $killed -gt 0 ] || die "every run had ended before it could be killed"
