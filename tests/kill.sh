#!/usr/bin/env bash
# tests/kill.sh PROGRAM [ARGUMENT...]: runs that are killed without warning and resumed end with the bytes of one that was not.
set -euo pipefail
program=$1
arguments=("${@:2}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export FPRNN_DEVICE=${DEVICE:-cpu} FPRNN_STEPS=60 FPRNN_BATCH_SIZE=4 FPRNN_D_MODEL=8 FPRNN_THREADS=1
export FPRNN_EVAL_SEQUENCES=16 FPRNN_CHECKPOINT_EVERY=7 FPRNN_LOG_EVERY=1

die() {
  echo "FAILED: $*" >&2
  exit 1
}
# What must not depend on how often a run was stopped: all but times.
result_of() {
  local last
  last="$1/$(cat "$1/LATEST")"
  sha256sum <"$last/model.safetensors"
  sha256sum <"$last/optimiser.safetensors"
  sed -E 's/"seconds": ?[^,]*,//; s/, ?"tokens_per_second": ?[^}]*//' "$1/metrics.jsonl" | sha256sum
  grep '"length": ' "$1/eval.json" | sha256sum
}

"$program" --out whole "${arguments[@]}" >log 2>&1 || die "$(cat log)"
killed=0
for after in 1 17 41; do # lines of metrics.jsonl
  "$program" --out "at$after" "${arguments[@]}" >log 2>&1 &
  until [ -s "at$after/metrics.jsonl" ] && [ "$(wc -l <"at$after/metrics.jsonl")" -ge $after ]; do
    kill -0 $! 2>/dev/null || break
    sleep 0.002
  done
  if kill -KILL $! 2>/dev/null; then killed=$((killed + 1)); fi
  wait $! 2>/dev/null || true
  "$program" --resume "at$after" >log 2>&1 || die "$(cat log)"
  [ "$(result_of "at$after")" = "$(result_of whole)" ] || die "the run that was killed after $after lines ended with other bytes"
done
[ $killed -gt 0 ] || die "every run had ended before it could be killed"
