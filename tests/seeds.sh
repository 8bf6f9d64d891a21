#!/usr/bin/env bash
# --seeds as its user meets it: tests/seeds.sh PROGRAM (state_tracking)
. "$(dirname "$0")/script.sh"
export FPRNN_TRAIN_LENGTH=4 FPRNN_STEPS=40 FPRNN_BATCH_SIZE=4 FPRNN_D_MODEL=8 FPRNN_D_STATE=4
export FPRNN_THREADS=1 FPRNN_CHECKPOINT_EVERY=7 FPRNN_LOG_EVERY=1 FPRNN_EVAL_LENGTHS=4,8 FPRNN_EVAL_SEQUENCES=16

# same FOLDER SEED...: each ended as it does alone.
same() {
  local seed
  for seed in "${@:2}"; do
    [ "$(result_of "$1/seed_$seed")" = "$(result_of "alone_$seed")" ] && cmp -s "$1/seed_$seed/config.json" "alone_$seed/config.json" || die "$1: seed $seed is not what it is alone"
  done
}
# process_of RUN: the one that writes it, by its argument, which this grep does not have.
process_of() {
  grep -lszx -- "$work/${1%?}[${1: -1}]" /proc/[0-9]*/cmdline | sed -E 's|/proc/([0-9]+)/.*|\1|'
}
# gone PROCESS: it ends soon.
gone() {
  local i
  for i in $(seq 500); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.02
  done
  die "process $1 goes on"
}

for seed in 0 1 2 3; do run --seed $seed --out alone_$seed; done
run --seeds 0-3 --jobs 2 --out many
same many 0 1 2 3
grep -q 'median' log && grep -q 'solved' log || die "no table: $(cat log)"
grep -q '</svg>' many/report.svg && [ "$(wc -l <many/summary.csv)" -eq 3 ] || die "summary.csv"
grep -q '"failed": \[\]' many/summary.json || die "summary.json"
run --seeds 2,3 --out two
same two 2 3

# Evaluated together, each is what it was; a seed without a checkpoint is a row.
run --evaluate many --out judged
cmp -s many/summary.csv judged/summary.csv && cmp -s many/summary.json judged/summary.json || die "evaluation of seeds: $(cat judged/summary.csv)"
grep -q '</svg>' judged/report.svg && [ ! -e judged/eval.json ] || die "files of an evaluation of seeds"
cp -r many cut && rm -r cut/seed_1/{checkpoints,LATEST}
run --evaluate cut --eval-lengths 8 --out cut_judged
grep -q '^cut,8,whole_sequences,4,1,' cut_judged/summary.csv || die "$(cat cut_judged/summary.csv)"

FPRNN_THREADS=4 run --seeds 0-1 --jobs 2 --steps 3 --out shared
grep -q 'cpu, 2 threads' shared/seed_0.log && grep -q '"threads": 4' shared/seed_0/config.json || die "threads are not shared out: $(cat shared/seed_0.log)"

# Runs that are named one by one are grouped too.
cp many/summary.csv kept.csv
run --compare many,alone_0,alone_1 --out beside
grep -q '^alone,4,whole_sequences,2,' beside/summary.csv && grep -q '^many,8,whole_sequences,4,' beside/summary.csv || die "$(cat beside/summary.csv)"
run --compare many --out many
cmp -s many/summary.csv kept.csv || die "compared with itself it is another"

# Ctrl-C saves each; what was killed goes on; what ended is left alone.
"$program" --seeds 0-2 --jobs 2 --steps 100000 --checkpoint-every 0 --out long >long.log 2>&1 &
parent=$!
await long/seed_1/metrics.jsonl $parent
await long/seed_0/metrics.jsonl $parent
kill -INT $parent
status=0
wait $parent || status=$?
[ $status -eq 130 ] || die "Ctrl-C: exit $status"
for seed in 0 1; do [ -s long/seed_$seed/LATEST ] || die "Ctrl-C: seed $seed is not saved"; done
[ ! -e long/seed_2/metrics.jsonl ] || die "a seed began after Ctrl-C"

"$program" --seeds 0-3 --jobs 2 --out "$work/killed" >killed.log 2>&1 &
parent=$!
await killed/seed_1/metrics.jsonl $parent
children=$(process_of killed/seed_0; process_of killed/seed_1)
kill -KILL $parent
wait $parent 2>/dev/null || true
for child in $children; do gone "$child"; done
run --resume killed --jobs 3
same killed 0 1 2 3
touch stamp
run --resume killed
[ ! killed/seed_0/eval.json -nt stamp ] || die "a seed that had ended ran again"

# A seed that fails is a row, and the others go on.
"$program" --seeds 0-2 --steps 400 --jobs 1 --out "$work/fails" >fails.log 2>&1 &
parent=$!
await fails/seed_1/metrics.jsonl $parent
kill -KILL "$(process_of fails/seed_1)"
status=0
wait $parent || status=$?
[ $status -eq 1 ] && grep -q '1 failed' fails.log && grep -q '^fails,4,whole_sequences,3,1,' fails/summary.csv || die "exit $status: $(cat fails.log)"
[ -s fails/seed_2/eval.json ] || die "the others do not go on"
run --resume fails --steps 400
grep -q '^fails,4,whole_sequences,3,0,' fails/summary.csv || die "$(cat fails/summary.csv)"

refuses 'only one of' --seeds 0-1 --resume many
refuses 'only one of' --seeds 0-1 --evaluate alone_0
refuses 'only one of' --seeds 0-1 --compare many
refuses 'a seed of its own' --seeds 0-1 --seed 3 --out no
refuses 'a seed of its own' --resume many --seed 3
refuses 'a seed of its own' --evaluate many --seed 3
refuses "name one of them.*many/seed_0" --predict many
rm -r cut/seed_*/{checkpoints,LATEST} 2>log || true
refuses 'no checkpoint in any' --evaluate cut --out no
refuses 'there is a run in it' --evaluate many --out alone_0
refuses 'such as 0-7' --seeds 3-1 --out no
refuses 'name seeds' --seeds '' --out no
refuses 'without seeds' --jobs 2 --out no
refuses 'without seeds' --jobs 2 --resume alone_0
refuses 'must be 1 to 1000' --seeds 0-1 --jobs 0 --out no
refuses 'M11' --seeds 0-1 --group M11 --out no
refuses 'there are seeds in it' --seeds 0-1 --out many
refuses 'there are seeds in it' --out many
refuses 'a new or an empty folder' --seeds 0-1 --out alone_0
refuses 'without --out' --resume many --out no
