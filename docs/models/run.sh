#!/bin/sh
# Trains every model of the program on Z2 and S3 with three seeds, one thread a run, the longest first:
#   docs/models/run.sh PROGRAM OUT [JOBS [DEVICE [MODEL ..]]]
# PROGRAM is state_tracking. JOBS run at a time, as many as there are processors by default. DEVICE is cpu, or auto: the
# GPU for models that can. MODELs are all that the program has, if none is named. docs/models/rows has for each the
# seconds that a run takes about, the groups that it is expected to solve, and its recipe beside --preset quick; one
# without a row has the preset. Other settings can be in the environment: FPRNN_TIME_LIMIT=60 ends a training.
# A run that has ended is not repeated: the same command goes on where another was stopped.
set -eu
rows=$(dirname "$0")/rows
program=$1 out=$2 jobs=${3:-$(getconf _NPROCESSORS_ONLN)} device=${4:-cpu}
shift $(($# > 4 ? 4 : $#))
[ $# -gt 0 ] || set -- $("$program" --help | awk '/^Models;/ {on = 1; next} on && !NF {exit} on {print $1}')
export program out device
mkdir -p "$out"

run='model=$2 group=$3 seed=$4; shift 4
run=$out/$model-$group-$seed
[ ! -e "$run/eval.json" ] || exit 0
rm -rf "$run"
"$program" --preset quick --eval-lengths 16,64 --threads 1 --device "$device" \
  --model "$model" --group "$group" --seed "$seed" "$@" --out "$run" >"$run.log" 2>&1 ||
  echo "failed: $run.log"'

for model; do
  row=$(grep "^$model " "$rows" || echo "$model 60 ?")
  for group in Z2 S3; do
    for seed in 0 1 2; do
      echo "$row" | awk -v job="$model $group $seed" \
        '{line = $2 " " job; for (i = 4; i <= NF; ++i) line = line " " $i; print line}'
    done
  done
done | sort -s -k1,1nr | xargs -P "$jobs" -L 1 sh -c "$run" sh
