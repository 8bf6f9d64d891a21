#!/usr/bin/env bash
# state_tracking by other protocols, and trained models run otherwise, as its user meets them: tests/protocols.sh PROGRAM
. "$(dirname "$0")/script.sh"
export FPRNN_GROUP=S3 FPRNN_D_MODEL=8 FPRNN_TRAIN_LENGTH=4 FPRNN_BATCH_SIZE=8
export FPRNN_THREADS=1 FPRNN_EVAL_LENGTHS=4,8 FPRNN_EVAL_SEQUENCES=64

# PD-SSM's: lengths from 3, and one label a row.
env -u FPRNN_GROUP -u FPRNN_TRAIN_LENGTH "$program" --preset a5-pd-ssm --dump 200 >rows
[ "$(grep -cE '"mask": \[0(, 0){2,}, 1(, 0)*\]' rows)" -eq 200 ] || die "not one label a row from length 3: $(head -n 1 rows)"
[ "$(grep -oE '"mask": .*, 1' rows | sort -u | wc -l)" -gt 20 ] || die "rows have few lengths"

last='--model lstm --shortest 2 --supervise last'
# shellcheck disable=SC2086
train last $last --steps 20
grep -q '"settings": {"group": "S3", "shortest": "2", "supervise": "last"}' last/eval.json || die "settings: $(cat last/eval.json)"
grep -q '"caption": "last tokens right"' last/eval.json && grep -q '"metrics": {"last_token": ' last/eval.json ||
  die "the main metric: $(cat last/eval.json)"
# shellcheck disable=SC2086
train part $last --steps 2000 --time-limit 0.0001
for change in '--shortest 3' '--supervise all'; do
  # shellcheck disable=SC2086
  refuses differ --resume part $change
done
run --evaluate last --shortest 0 --supervise all --out all
grep -q '"metrics": {"whole_sequences": ' all/eval.json || die "an evaluation of all labels: $(cat all/eval.json)"
refuses 'at most the trained length: shortest and length, got 5 and 4' --shortest 5
refuses 'at most the trained length' --shortest 3 --curriculum 2,0.5
refuses 'a length from 1' --shortest -1
refuses 'supervise must be all, last' --supervise first

# A run of a preset that has since been given settings goes on without them.
train before --preset a5-pd-ssm --group A5 --model lstm --steps 2000 --warmup 10 --end-lr 0 --shortest 0 --supervise all --time-limit 0.0001
sed -i '/"end_lr"/d; /"shortest"/d; /"supervise"/d' before/config.json
exits 0 env -u FPRNN_GROUP "$program" --resume before --time-limit 0.0001

# A trained model, run otherwise.
metrics_of() { grep -o '"metrics": {[^}]*}' "$1/eval.json"; }
# mean_iterations NAME: at the longest length.
mean_iterations() { grep -o '"iterations_mean": [0-9.]*' "$1/eval.json" | tail -n 1 | grep -o '[0-9.]*$'; }
# evaluated NAME WORDS ARGUMENT...: an evaluation of the run fp into the folder says WORDS of what it changed.
evaluated() {
  run --evaluate fp --out "$1" "${@:3}"
  grep -qF "\"evaluated_with\": {$2}" "$1/eval.json" || die "${*:3}: $(cat "$1/eval.json")"
  grep -q "^evaluated with $(sed 's/[",_:]/ /g; s/  */ /g; s/^ //; s/ $//' <<<"$2")\$" log || die "${*:3}: $(cat log)"
}
train fp --d-state 4 --steps 60
run --evaluate fp --max-iterations 1000 --out own
same_evaluation fp own || die "its own cap makes another evaluation"
evaluated cap '"max_iterations": "1"' --max-iterations 1
[ "$(metrics_of cap)" != "$(metrics_of fp)" ] || die "one iteration answers as many do"
evaluated coarse '"tolerance": "0.1"' --tolerance 0.1
awk "BEGIN { exit !($(mean_iterations coarse) < $(mean_iterations fp)) }" || die "a coarse tolerance takes as many iterations"
evaluated parallel '"solver": "parallel"' --solver parallel
grep -q '"solver": "parallel",' parallel/eval.json || die "the solver: $(cat parallel/eval.json)"
evaluated bare '"additive_input": "false"' --additive-input false
[ "$(metrics_of bare)" != "$(metrics_of fp)" ] || die "inputs add nothing, and all is as before"
run --compare fp,cap,bare
grep -q '^bare: evaluated with additive input false$' log && grep -q '^cap: evaluated with' log || die "$(cat log)"
for change in '--d-model 16' '--d-state 8' '--layers 2' '--mixer dplr' '--group Z6' '--glu-in-loop false' '--model mamba'; do
  key=$(cut -d ' ' -f 1 <<<"${change#--}" | tr - _)
  # shellcheck disable=SC2086
  refuses "$key" --evaluate fp $change
done

# What weights fit anyway is still of the training that goes on.
train none --d-state 4 --steps 2000 --additive-input false --time-limit 0.0001
refuses 'differ: additive_input' --resume none --additive-input true
run --evaluate none --additive-input true --out added
grep -qF '"evaluated_with": {"additive_input": "true"}' added/eval.json || die "$(cat added/eval.json)"
