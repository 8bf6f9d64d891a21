#!/usr/bin/env bash
# Makes the runs of one row of a document's tables and adds a line for each to runs.jsonl:
#   docs/paper/run.sh ROW [OUT [OPTION..]]
# ROW is the name of a file of docs/paper/rows, 1 to 16, or docs/tasks/rows, or the path of such a file. The folder of a run is OUT/LABEL-SEED; OUT is
# runs/paper/ROW-SCALE if it is not named. OPTIONs are said to every training after its own: for trials, since such runs
# are not the row's and the report leaves them out. In the environment:
#   SCALE   gpu, or cpu, the reduced form for two cores; gpu where there is one
#   SEEDS   such as 0-7, in place of the row's
#   DEVICE  auto, cpu or cuda
#   JOBS    runs at once: 8 at scale gpu, else as many as there are processors
#   BIN     folder of the programs, build/release/bin
#   RUNS    the file of lines, runs.jsonl beside the row's folder
# and settings of the programs that a row leaves open, such as FPRNN_TEXT; FPRNN_TIME_LIMIT=60 ends each training.
#
# A run that has a line is not repeated, and one that was stopped goes on from its last checkpoint: the same command
# goes on where another was stopped. A training that diverged has a line. Exit code 1: a run failed in another way, and
# has none; 130: stopped.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
row=${1:?usage: docs/paper/run.sh ROW [OUT [OPTION..]]}
[[ $row == */* ]] || row=$(echo "$here"/../*/rows/"$row")
scale=${SCALE:-$([ -e /dev/nvidia0 ] && echo gpu || echo cpu)}
out=${2:-runs/paper/${row##*/}-$scale}
shift $(($# > 2 ? 2 : $#))
bin=${BIN:-$here/../../build/release/bin}
runs=${RUNS:-$(dirname "$row")/../runs.jsonl}
jobs=${JOBS:-$([ "$scale" = gpu ] && echo 8 || getconf _NPROCESSORS_ONLN)}
export FPRNN_DEVICE=${DEVICE:-auto}
[ "$jobs" -eq 1 ] || export FPRNN_THREADS=${FPRNN_THREADS:-1}
mkdir -p "$out"

# record RUN [ARGUMENT...]: a line for the run that the variables of make describe, one at a time
record() {
  flock "$runs" "$bin/paper" record "$row" "$runs" "$1" --scale "$scale" --label "$label" --seed "$seed" --command "$command" "${@:2}"
}

# start ARGUMENT...: the program, which a signal to this process ends too; its exit code is in status
start() {
  local child
  "$bin/$program" "$@" >"$log" 2>&1 </dev/null &
  child=$!
  trap 'kill "$child" 2>/dev/null || true' TERM
  status=0
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do
    status=0
    wait "$child" || status=$?
  done
}

# make LABEL SEED OF PROGRAM COMMAND ARGUMENTS: a run, in a process of its own
make() {
  local label=$1 seed=$2 of=$3 program=$4 command=$5 run=$out/$1-$2 log=$out/$1-$2.log status=0
  local -a arguments
  read -ra arguments <<<"$6"
  if [ "$of" != - ]; then
    [ -e "$out/$of-$seed/eval.json" ] || return 0  # its training failed, and says so
    rm -rf "$run"
    start --evaluate "$out/$of-$seed" "${arguments[@]}" --out "$run"
  else
    [ "$(cat "$run.command" 2>/dev/null)" = "$command" ] || rm -rf "$run"
    echo "$command" >"$run.command"
    if [ -e "$run/LATEST" ] && [ ! -e "$run/eval.json" ]; then
      start --resume "$run"
    elif [ ! -e "$run/eval.json" ]; then
      rm -rf "$run"
      start "${arguments[@]}" --seed "$seed" --out "$run"
    fi
  fi
  if [ -e "$run/eval.json" ]; then
    record "$run"
    echo "done: $label, seed $seed"
  elif diverged=$(grep -m 1 '^\[train\] loss and gradients must be finite' "$log"); then
    record "$run" --failed "$diverged"
    echo "diverged: $label, seed $seed"
  elif [ "$status" -lt 128 ]; then
    echo "failed: $label, seed $seed: $log: $(tail -n 1 "$log")"
    return 1
  fi
}

stopped='' failed=0
trap 'stopped=yes' INT  # a terminal says so to the programs too, which take a second time as the end
trap 'stopped=yes; kill $(jobs -p) 2>/dev/null || true' TERM
# Those of the list on standard input that are trainings or evaluations, so many at once.
make_all() {
  local pids=() pid line fields
  while IFS= read -r line; do
    IFS='|' read -ra fields <<<"$line"
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
    [ -z "$stopped" ] || break
    make "${fields[@]}" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do wait "$pid" || true; done
    wait "$pid" || failed=1
  done
}

{ # read as a whole before it begins, so that the file may change meanwhile
  list=$("$bin/paper" jobs "$row" "$runs" "$out" --scale "$scale" ${SEEDS:+"--seeds=$SEEDS"} ${1:+"--options=$*"})
  make_all < <(awk -F '|' 'NF && $3 == "-"' <<<"$list")
  [ -n "$stopped" ] || make_all < <(awk -F '|' 'NF && $3 != "-"' <<<"$list")
  [ -z "$stopped" ] || exit 130
  exit "$failed"
}
