#!/usr/bin/env bash
# language_model as its user meets it: tests/language_model.sh PROGRAM
. "$(dirname "$0")/script.sh"
mkdir text
seq 1 4000 >text/numbers
head -c 3000 "$program" >text/binary
export FPRNN_TEXT=text FPRNN_TRAIN_LENGTH=24 FPRNN_STEPS=${STEPS:-120} FPRNN_BATCH_SIZE=4
export FPRNN_D_MODEL=8 FPRNN_D_STATE=4 FPRNN_LAYERS=2 FPRNN_THREADS=1 FPRNN_EVAL_LENGTHS=24 FPRNN_EVAL_BYTES=200
export FPRNN_MODEL=fp-mamba FPRNN_CHECKPOINT_EVERY=7 FPRNN_LOG_EVERY=1

# Carried lanes: killed without warning and resumed, again and again, they end with the same bytes.
for accumulate in 1 2; do
  export FPRNN_ACCUMULATE=$accumulate FPRNN_CARRY_STATE=true
  train whole$accumulate
  ls "whole$accumulate/$(cat whole$accumulate/LATEST)" | grep -q carried.safetensors || die "no carried state"
  for i in 1 2 3; do
    run=killed$accumulate$i
    "$program" --out "$run" >"$run.log" 2>&1 &
    await "$run/config.json"
    for delay in 0.$((i * 13)) 0.$((i * 29)); do
      sleep "$delay"
      strike
      "$program" --resume "$run" >>"$run.log" 2>&1 &
    done
    wait $! || die "$run: $(cat "$run.log")"
    [ "$(result_of whole$accumulate)" = "$(result_of "$run")" ] || die "$run: other bytes"
  done
  unset FPRNN_ACCUMULATE FPRNN_CARRY_STATE
done
[ "$(result_of whole1)" != "$(result_of whole2)" ] || die "--accumulate changes nothing"

# A resume without the state that was carried, or one that would carry none.
cp -r whole1 torn
rm "torn/$(cat torn/LATEST)/carried.safetensors"
refuses 1 carried.safetensors --resume torn
refuses 'carry_state' --resume whole1 --carry-state false

# The data of a run are its own.
cp -r text kept
printf x | dd of=text/numbers bs=1 seek=100 conv=notrunc 2>log
refuses "go on with what it was trained on.*'21894 tokens, .*'21894 tokens" --resume whole1
run --evaluate whole1  # of another text
rm -r text && mv kept text

# A preset that must stay below a number of bits.
if [ -x /usr/bin/bible ]; then
  run --help
  grep -q 'must reach bits_per_byte of at most 2.4 at length 256' log || die "no goal in --help"
fi

# The paper's schedule: a cosine from 4e-3 to 1e-5.
train paper --preset paper --steps 200 --warmup 2 --accumulate 1 --eval-bytes 60
rates() { grep -o '"lr": [^,]*' paper/metrics.jsonl | cut -d ' ' -f 2; }
awk '{ if ($1 > most) most = $1; last = $1 } END { exit !(most > 3.99e-3 && most <= 4e-3 && last >= 1e-5 && last < 1.1e-5) }' < <(rates) ||
  die "the learning rate: $(rates | tail -n 1)"

# Windows; the whole of the held-out part in windows and as one sequence; on another text, too.
train windows
[ "$(grep -c '"bits_per_byte": ' windows/eval.json)" -eq 2 ] || die "not two results"
grep -q '"length": 200, "sequences": 1, ' windows/eval.json || die "no whole text"
! ls "windows/$(cat windows/LATEST)" | grep -q carried || die "carried state of windows"
run --evaluate windows --out again
same_evaluation windows again || die "evaluation alone differs"
for part in "--held-out test" "--text markov"; do
  run --evaluate windows --out other $part
  ! cmp -s <(grep bits_per windows/eval.json) <(grep bits_per other/eval.json) || die "$part changes nothing"
  rm -r other
done

# Samples: of one seed the same bytes, as many as asked for, and nothing else on standard output. The text may be
# gone.
sample() { "$program" --evaluate windows --text nowhere --sample 50 "$@" 2>log || die "sample $*: $(cat log)"; }
sample >one
sample >same
sample --seed 9 >other
sample --count 3 >three
cmp -s one same || die "one seed, two samples"
! cmp -s one other || die "two seeds, one sample"
size=$(wc -c <one)  # fewer than 50 where the model wrote a border
[ "$size" -gt 0 ] && [ "$size" -le 50 ] || die "$size bytes"
cmp -s <(head -c $((size + 1)) three) <(cat one && echo) && [ "$(wc -c <three)" -gt $((size + 2)) ] || die "--count"
for greedy in "--temperature 0" "--top-k 1" "--top-p 0"; do
  sample --prompt 123 --seed "$RANDOM" $greedy >greedy
  [ ! -e first ] || cmp -s first greedy || die "$greedy"
  [ -e first ] || cp greedy first
done
printf 123 >prompt
sample --prompt @prompt --temperature 0 | cmp -s - first || die "--prompt @FILE"
printf '\xff\x00\xc3' >prompt
sample --prompt @prompt >log || die "a prompt of any bytes"
sample --temperature 50 --count 5 --escape | iconv -f UTF-8 -t UTF-8 >log || die "--escape"
grep -q '\\x[0-9a-f]' log || die "nothing was escaped"
twentieth="\\x$(od -An -tx1 -j19 -N1 first | tr -d ' ')"
[ "$(sample --stop "no|$twentieth" --prompt 123 --temperature 0 | wc -c)" -lt 20 ] || die "--stop $twentieth"

at="--evaluate windows --sample 9"
refuses 'temperature.*got -1' $at --temperature -1
refuses 'temperature' $at --temperature nan
refuses 'top_p.*got 2' $at --top-p 2
refuses 'top_k' $at --top-k -1
refuses 'count' $at --count 0
refuses 'must not be empty' $at --stop 'a|'
refuses 'backslash' $at --stop '\q'
refuses 'must be UTF-8' $at --prompt $'a\xff'
refuses 'must be there' $at --prompt @nowhere
refuses '2^24' --evaluate windows --sample -1
refuses 'a byte to write' --evaluate windows --sample 0
refuses 'must be a finite number' $at --temperature inf
refuses 'must be there' $at --prompt @
refuses 'must be there' $at --prompt @text
refuses 'without --sample' --evaluate windows --top-k 3
refuses 'with --evaluate' --sample 9 --out no
refuses 'without --out' $at --out no
: >empty
mkdir -p void with_empty
: >with_empty/file
printf ab >two
mkfifo pipe
refuses 'must be there' --text nowhere --out no
refuses 'must not be empty' --text empty --out no
refuses 'there must be a file' --text void --out no
refuses 'there must be a file' --text with_empty --out no
refuses 'must not be empty' --text text,empty --out no
refuses 'a file or a folder' --text pipe --out no
refuses 'must name a text' --text '' --out no
refuses 'as long as a sequence.*got 2 and 24' --text two --out no
refuses 'a part can be held out' --text two --train-length 1 --out no
refuses 'a part can be held out' --evaluate windows --text two --out no
refuses 'must not be empty' --evaluate windows --text empty --out no
refuses 'these differ: text' --resume windows --text text/numbers
refuses 'as long as a sequence' --train-length 200000 --out no
refuses 'the lanes must be as long' --carry-state true --batch-size 4000 --out no
(unset FPRNN_D_STATE && refuses 'caches its past' --model transformer --carry-state true --out no)
refuses 'no curriculum' --curriculum 4,0.5 --carry-state true --out no
refuses 'must not be negative' --eval-bytes -1 --out no
