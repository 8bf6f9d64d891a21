# shellcheck shell=bash
# What the tests of programs share, to be sourced by each: a folder of its own to work in, and what is asked of a program.
# $1 is the program, or the folder of all. DEVICE=cuda asks on a GPU.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export FPRNN_DEVICE=${DEVICE:-cpu}

die() {
  echo "FAILED: $*" >&2
  exit 1
}
# exits CODE COMMAND...: what it says is in log.
exits() {
  local status=0
  "${@:2}" >log 2>&1 || status=$?
  [ "$status" -eq "$1" ] || die "${*:2}: exit $status, not $1: $(cat log)"
}
# run ARGUMENT...: the program does it; what it says is in log.
run() { exits 0 "$program" "$@"; }
# train NAME ARGUMENT...: a run into the folder; what it says is in NAME.log too.
train() {
  run --out "$@"
  cp log "$1.log"
}
# refuses [CODE] WORDS ARGUMENT...: the program ends with that code, 2 if none is named, says the words in one line, the
# device and the data left aside, and makes neither the folder no nor one by the time.
refuses() {
  local code=2 status=0
  if [[ $1 =~ ^[12]$ ]]; then code=$1 && shift; fi
  "$program" "${@:2}" >log 2>err || status=$?
  [ "$status" -eq "$code" ] || die "${*:2}: exit $status, not $code: $(cat err)"
  grep -qi -- "$1" err || die "${*:2}: no '$1' in: $(cat err)"
  [ "$(grep -vcE '^(device |[0-9]+ tokens; )' err)" -eq 1 ] || die "${*:2}: not one line: $(cat err)"
  [ ! -e no ] && [ ! -e runs ] || die "${*:2}: something was made"
}
# await FILE [PROCESS]: until the process, that in the background if none is named, has something written there, or ends.
await() {
  until [ -s "$1" ]; do
    kill -0 "${2:-$!}" 2>/dev/null || die "no $1"
    sleep 0.005
  done
}
# strike: the program in the background ends without warning, if it has not.
strike() {
  kill -KILL $! 2>/dev/null || true
  wait $! 2>/dev/null || true
}
# train_until LINES NAME ARGUMENT...: a run that is struck as soon as its metrics.jsonl has so many lines; whether it was
# before its end.
train_until() {
  local status=0
  "$program" --out "${@:2}" >log 2>&1 &
  until [ -s "$2/metrics.jsonl" ] && [ "$(wc -l <"$2/metrics.jsonl")" -ge "$1" ]; do
    kill -0 $! 2>/dev/null || break
    sleep 0.002
  done
  kill -0 $! 2>/dev/null || status=1
  strike
  return $status
}
# training_of RUN, result_of RUN: what must not depend on how often it was stopped, so all but times; the latter with its
# evaluation.
training_of() {
  local folder
  for folder in "$1/$(cat "$1/LATEST")" "$1/best"; do
    [ ! -e "$folder" ] || sha256sum "$folder"/*.safetensors | cut -c 1-64
  done
  sed -E 's/"seconds": ?[^,]*,//; s/, ?"(tokens|bytes)_per_second": ?[^,}]*//g' "$1/metrics.jsonl" | sha256sum
}
result_of() {
  training_of "$1"
  grep -v train_seconds "$1/eval.json" | sha256sum
}
# same_evaluation RUN RUN: in all but times.
same_evaluation() { cmp -s <(grep -v train_seconds "$1/eval.json") <(grep -v train_seconds "$2/eval.json"); }
