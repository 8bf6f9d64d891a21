#!/usr/bin/env bash
# docs/paper/run.sh and the report of what it ran, as their user meets them: tests/paper.sh PROGRAMS (their folder)
. "$(dirname "$0")/script.sh"
export BIN=$program SCALE=test JOBS=2 DEVICE=cpu
mkdir -p paper/rows
export RUNS=paper/runs.jsonl
row=paper/rows/small

run_row() { "$source/docs/paper/run.sh" "$@"; }
lines() { wc -l <"$RUNS"; }

cat >$row <<'END'
# Small enough for a test.
test seeds 0-1
test options --group S3 --model mamba --d-model 8 --batch-size 4 --train-length 4 --steps 40 --eval-lengths 4,8
test options --eval-sequences 16
cpu train other state_tracking
test train small state_tracking --steps 30 --d-state 4
test train diverges state_tracking --lr 1e30 --clip 1e30
test ask small-far small --eval-lengths 16,32 --eval-sequences 8
paper small .5 (image)
END

# All runs have a line, the diverged ones too, and are not repeated.
exits 0 run_row ./$row runs
[ "$(lines)" -eq 6 ] || die "lines: $(cat $RUNS)"
[ "$(grep -c '"failed":"\[train\] loss and gradients must be finite' $RUNS)" -eq 2 ] || die "diverged: $(cat $RUNS)"
grep -q '"label":"small".*"seed":1,"command":"state_tracking --group S3 .*--steps 30 .*--seed 1".*"steps":30' $RUNS || die "$(cat $RUNS)"
grep -q '"command":"state_tracking .* --seed 0; state_tracking --evaluate small:0 .*"length":\[16,32\],"sequences":\[8,8\]' $RUNS || die "$(cat $RUNS)"
! grep -q "$work" $RUNS || die "a path is in $RUNS"
exits 0 run_row ./$row runs
[ "$(lines)" -eq 6 ] && [ ! -s log ] || die "runs are repeated: $(cat log)"

# What lost its line has it again from its folder, and what is evaluated anew needs its training again where that is gone.
grep -v small-far $RUNS >fewer && mv fewer $RUNS
rm -r runs/small-1
exits 0 run_row ./$row runs
grep -q 'done: small, seed 1' log && ! grep -q 'done: small, seed 0' log || die "$(cat log)"
[ "$(grep -c 'done: small-far' log)" -eq 2 ] || die "$(cat log)"

# The document: medians, seeds, failures, what is lacking; a chart; nothing to do the second time.
cat >paper.md <<'END'
# Small runs
<!-- table row=small scale=test at=4,8 -->
old
<!-- end -->
## Steps
<!-- chart steps row=small scale=test x=steps y=tokens@8 -->
<!-- end -->
<!-- chart lengths row=small scale=test -->
<!-- end -->
## Nothing yet
<!-- table row=small labels=other scale=cpu -->
<!-- end -->
END
report() { "$BIN/paper" report paper.md "$@"; }
exits 1 report --check
grep -qx old paper.md || die "--check writes"
exits 0 report
grep -q '^| `small` | .5 (image) | .* (.* .*) | .* | 30 | ' paper.md || die "$(cat paper.md)"
grep -q '^| `diverges` |  | - (failed failed) |' paper.md || die "$(cat paper.md)"
grep -q '^`SCALE=test docs/paper/run.sh small`: 6 runs, 2 failed; 20.*commit' paper.md || die "$(cat paper.md)"
! grep -q '^old' paper.md && grep -q '^Nothing yet: Lacking: all runs of row small (cpu)' log || die "$(cat log)"
grep -q '!\[steps\](paper/steps.svg)' paper.md && grep -q '</svg>' paper/steps.svg && grep -q 'S3' paper/lengths.svg || die "charts"
exits 0 report --check
cp paper.md kept.md
exits 0 report
cmp -s paper.md kept.md || die "the second report is another"
value=$(sed -nE 's/.*"length": 4, .*"whole_sequences": ([0-9.]+).*/\1/p' runs/small-0/eval.json)
[ "$(awk -v v="$value" 'BEGIN { s = sprintf("%.3f", v); print v < .0005 ? "0" : substr(s, 2) }')" = \
  "$(sed -nE 's/^\| `small` \| [^|]* \| [^|]*\(([0-9.]+) [^|]*/\1/p' paper.md | sed 's/|.*//')" ] || die "$value: $(cat paper.md)"
sed -i 's/`small` | .5/`small` | .6/' paper.md
exits 1 report --check
exits 0 report
sed -i 's/<title>/<title>x/' paper/steps.svg
exits 1 report --check
sed -i 's/<!-- end -->//' paper.md
exits 1 report
grep -q 'must have an end' log || die "$(cat log)"

# A trial with other options has lines, and is none of the row's runs.
cp kept.md paper.md
exits 0 report
before=$(lines)
SEEDS=0,5 exits 0 run_row ./$row trial --steps 2
[ "$(grep -c '"seed":5,"command":"state_tracking [^"]*--steps 2 ' $RUNS)" -eq 3 ] || die "$(cat $RUNS)"
exits 0 report --check
[ "$(lines)" -eq $((before + 6)) ] || die "$(cat $RUNS)"

# TERM saves what was running, which has no line and goes on.
sed 's/--steps 30/--steps 200000/' $row >paper/rows/long
"$source/docs/paper/run.sh" ./paper/rows/long long >long.log 2>&1 &
parent=$!
until [ -s long/small-0/metrics.jsonl ] && [ -s long/small-1/metrics.jsonl ]; do
  kill -0 $parent || die "$(cat long.log)"
  sleep 0.02
done
before=$(lines)
kill -TERM $parent
status=0
wait $parent || status=$?
[ $status -eq 130 ] && [ "$(lines)" -eq "$before" ] && [ -s long/small-1/LATEST ] || die "exit $status: $(cat long.log)"
FPRNN_TIME_LIMIT=0.001 exits 0 run_row ./paper/rows/long long
[ "$(wc -l <long/small-0/starts.jsonl)" -eq 2 ] && [ "$(lines)" -eq $((before + 6)) ] || die "it did not go on: $(cat log)"

# A run that cannot be has no line, and the others go on.
sed 's/--d-state 4/--d-state four/' $row >paper/rows/wrong
exits 1 run_row ./paper/rows/wrong wrong
grep -q 'failed: small, seed 0: wrong/small-0.log: .*d_state' log && grep -q 'diverged: diverges, seed 1' log || die "$(cat log)"
! grep -q '"row":"wrong","label":"small"' $RUNS || die "a line of nothing"
for words in 'seeds 3-1' 'train a' 'train a b c' 'ask a none --eval-lengths 4' 'tain a state_tracking' 'paper a'; do
  { echo 'test seeds 0'; echo "test $words"; } >paper/rows/refused
  exits 1 run_row ./paper/rows/refused refused
  grep -qE 'refused:2|such as 0-7|must begin with an option' log || die "$words: $(cat log)"
done
