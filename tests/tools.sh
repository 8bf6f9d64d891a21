#!/usr/bin/env bash
# tests/tools.sh STATE_TRACKING: tools/fprnn_run.py answers as --predict does, for runs whose layers differ in what it
# knows. Needs a Python with numpy; 77 without.
. "$(dirname "$0")/script.sh"
tool=$source/tools/fprnn_run.py
export FPRNN_DEVICE=cpu FPRNN_GROUP=S3 FPRNN_D_MODEL=16 FPRNN_THREADS=1 FPRNN_EVAL_LENGTHS=4 FPRNN_EVAL_SEQUENCES=4

for python in python3 /usr/bin/python3; do
  if "$python" -c 'import numpy' 2>/dev/null; then break; fi
  python=
done
[ -n "$python" ] || { echo "skipped: no Python with numpy"; exit 77; }

# The same tokens to both; then who is right at each place, and how sure.
compare() { # run
  printf '%s\n' '[6, 1, 2, 3, 4, 5, 0, 1]' '[6, 5, 5]' | "$program" --predict "$1" --tolerance 1e-6 >"$1.ours" 2>/dev/null
  printf '%s\n' '6 1 2 3 4 5 0 1' '6 5 5' | "$python" "$tool" "$1" >"$1.theirs"
  "$python" - "$1" <<'END'
import json, sys
ours, theirs = ([json.loads(line) for line in open(sys.argv[1] + end)] for end in (".ours", ".theirs"))
assert len(ours) == len(theirs) == 2
for a, b in zip(ours, theirs):
    assert a["answer_ids"] == b["answers"], (a, b)
    assert len(a["probabilities"]) == len(b["probabilities"])
    worst = max(abs(x - y) for x, y in zip(a["probabilities"], b["probabilities"]))
    assert worst < 1e-5, (worst, a, b)
END
}
train two_layers --layers 2 --mixer householder --rank 2 --steps 20
compare two_layers
train gate_outside --mixer dplr --rank 2 --short-conv true --glu-in-loop false --steps 60
compare gate_outside
train keeps --mixer householder --additive-input false --state-keep 0.5 --steps 60 --lr 0.1 --keep best --eval-every 5
step_in() { sed -nE 's/^ *"step": ([0-9]*),$/\1/p' "$1/state.json"; }
[ "$(step_in keeps/best)" -lt "$(step_in "keeps/$(cat keeps/LATEST)")" ]  # or both have the same weights
compare keeps

# A model that it does not know is named.
train other --model mamba --steps 1
if echo 6 1 | "$python" "$tool" other 2>message; then exit 1; fi
grep -q "the model is mamba, not fp-mamba" message
