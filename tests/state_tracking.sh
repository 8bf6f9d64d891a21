#!/usr/bin/env bash
# The program as its user meets it: tests/state_tracking.sh PROGRAM CASE, where CASE is one of
#   run      a run directory and what is in it; evaluation, comparison, time limit
#   kill     20 runs killed without warning and resumed end with the bytes of one that was not
#   misuse   messages, exit codes, nothing half-written
#   end      whatever ends a run, a signal, output that fails, an error, its last step is saved
#   folder   what is in a run directory already, or goes from it, is not lost in silence
#   no_gpu   without a GPU, or with it hidden: auto computes on the CPU, cuda is an error
# STEPS=100 makes its runs as long, for tools that make everything slow.
. "$(dirname "$0")/script.sh"

# Small enough to train in a second, with every kind of state to carry on. Flags win over these.
steps=${STEPS:-800} last_checkpoint=checkpoints/step_$(printf %08d "${STEPS:-800}")
export FPRNN_GROUP=S3 FPRNN_TRAIN_LENGTH=4 FPRNN_STEPS=$steps FPRNN_BATCH_SIZE=16 FPRNN_D_MODEL=8 FPRNN_D_STATE=4
export FPRNN_THREADS=1 FPRNN_CHECKPOINT_EVERY=7 FPRNN_LOG_EVERY=1 FPRNN_EVAL_LENGTHS=4,8 FPRNN_EVAL_SEQUENCES=32
export FPRNN_ITERATION_CAP=gamma:4,5 FPRNN_STATE_DROPOUT=0.1

case_run() {
  train a
  local file
  for file in config.json metrics.jsonl eval.json report.svg LATEST; do
    [ -s "a/$file" ] || die "no $file"
  done
  grep -q '"solver": *"auto"' a/config.json || die "the default solver"
  [ "$(wc -l <a/metrics.jsonl)" -eq "$steps" ] || die "metrics.jsonl has not a line a step"
  [ "$(cat a/LATEST)" = "$last_checkpoint" ] || die "LATEST"
  [ "$(find a/checkpoints -mindepth 1 -maxdepth 1 | wc -l)" -le 3 ] || die "old checkpoints stay"
  grep -q '"settings": {"group": "S3"}' a/eval.json && grep -q '"whole_sequences": ' a/eval.json || die "eval.json"
  grep -q 'length' a.log || die "no table"

  grep -q '"version": *"[0-9]' a/eval.json && grep -q '"commit": *"' a/eval.json || die "no version in eval.json"
  grep -qE '"instruction_set": *"(baseline|avx)' a/eval.json && grep -q '"seed": *0,' a/eval.json || die "no seed in eval.json"

  # The configuration that was written makes the same run; the seed another one.
  exits 0 env -u FPRNN_STEPS -u FPRNN_LOG_EVERY "$program" --config a/config.json --out b
  [ "$(result_of a)" = "$(result_of b)" ] || die "config.json makes another run"
  train c --threads 2
  [ "$(result_of a)" = "$(result_of c)" ] || die "threads change the result"
  train d --seed 1
  [ "$(result_of a)" != "$(result_of d)" ] || die "the seed changes nothing"

  run --evaluate a --out e
  same_evaluation a e || die "evaluation alone differs"
  run --compare a,d --out f
  grep -q '</svg>' f/report.svg || die "no comparison"

  train g --time-limit 0.05
  grep -q 'time limit' g.log || die "no word of the time limit"
  until [ "$(cat g/LATEST)" = "$last_checkpoint" ]; do
    run --resume g --time-limit 0.3
  done
  [ "$(result_of a)" = "$(result_of g)" ] || die "stopping changes the result"
  grep -q '"step": [1-9].*"commit"' g/starts.jsonl || die "starts.jsonl does not say who went on"

  # One thread is one, in evaluations too.
  "$program" --steps 100000 --eval-every 1 --eval-lengths 8 --eval-sequences 20000 --out h >h.log 2>&1 &
  await h/eval.json
  [ "$(find "/proc/$!/task" -mindepth 1 -maxdepth 1 | wc -l)" -eq 1 ] || die "--threads 1 makes more than one"
  strike

  # What a path contains moves no cursor.
  local name=$'i\e[31m\xc2\x9bj'
  "$program" --steps 3 --out "$name" >i.log 2>&1 || die "$(cat i.log)"
  "$program" --evaluate "$name" >>i.log 2>&1 || die "$(cat i.log)"
  "$program" --resume "$name/none" >>i.log 2>&1 && die "resumed nothing"
  ! grep -q $'\e\\|\xc2\x9b' i.log || die "control characters: $(cat -v i.log)"
  if command -v script >/dev/null; then
    TERM=dumb script -qec "'$program' --steps 3 --out k" /dev/null >k.log </dev/null
    ! grep -q $'\e' k.log || die "escape codes for a dumb terminal"
    TERM=xterm script -qec "'$program' --steps 3 --out l" /dev/null >l.log </dev/null
    grep -q $'\e' l.log || die "no live line on a terminal"
  fi
}

case_kill() {
  train whole
  local i run delay
  for i in $(seq 20); do
    run=killed$i
    # Strike somewhere in the run, before its first checkpoint too, and more than once.
    "$program" --out "$run" >"$run.log" 2>&1 &
    await "$run/config.json"
    for delay in 0.$(printf %03d $((i / 3 * 17 % 240))) 0.$(printf %03d $((i * 31 % 300))); do
      sleep "$delay"
      strike
      "$program" --resume "$run" >>"$run.log" 2>&1 &
    done
    if [ $((i % 4)) -eq 0 ]; then  # and now and then a polite Ctrl-C
      sleep 0.1
      kill -INT $! 2>/dev/null || true
    fi
    local status=0
    wait $! || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 130 ] || die "resume $i: status $status: $(tail -n 3 "$run.log")"
    "$program" --resume "$run" >>"$run.log" 2>&1 || die "$(tail -n 3 "$run.log")"
    [ "$(result_of "$run")" = "$(result_of whole)" ] || die "run $i ended with other bytes"
    [ -z "$(find "$run" -name '*.tmp*' -o -name '*.old*')" ] || die "run $i left temporaries"
  done
  echo "20 of 20 killed runs ended with the same bytes"
}

case_misuse() {
  refuses M11 --group M11 --out no
  refuses learning-rate --learning-rate 1
  refuses steps --steps many
  refuses steps --steps 0 --out no
  refuses mixer --mixer butterfly
  refuses rank --mixer householder --rank 1000 --out no
  refuses preset --preset huge
  refuses gradient --gradient two-step --out no
  refuses iteration_cap --iteration-cap gamma:x --out no
  refuses lengths --eval-lengths 0
  refuses only --resume a --evaluate b
  CUDA_VISIBLE_DEVICES=-1 refuses 1 cuda --device cuda --out no
  refuses matmul_precision --device cpu --matmul-precision tf32 --out no
  FPRNN_STEPS=many refuses FPRNN_STEPS
  echo '{"stepz": 3}' >unknown.json && refuses stepz --config unknown.json
  echo '{"steps": "3"}' >type.json && refuses steps --config type.json
  echo '{"steps": 3' >cut.json && refuses cut.json --config cut.json
  # What cannot work is found before anything is written.
  refuses max_iterations --max-iterations 0 --out no
  refuses max_iterations --max-iterations 2147483648 --out no
  refuses tolerance --tolerance=-1 --out no
  refuses tolerance --tolerance 1e309 --out no  # beyond float and double alike
  refuses rate --state-dropout=-1 --out no
  refuses rate --state-dropout 1.5 --out no
  refuses Gamma --iteration-cap gamma:4,nan --out no
  refuses '2^31 tokens' --train-length 2305843009213693951 --out no
  refuses '2^31 tokens' --eval-sequences 4611686018427387904 --out no
  refuses '2^20' --expand 2305843009213693954 --out no
  refuses layers --layers 4294967296 --out no
  refuses 'mamba has no mixer' --model mamba --mixer kronecker --out no
  refuses 'run directory' --compare , --out no
  for action in resume evaluate compare; do refuses 'run directory' --$action '' --out no; done
  mkdir young && echo '{}' >young/config.json && refuses 'no checkpoint in it yet' --evaluate young
  refuses 'did you mean --steps' --stpes 3 --out no
  FPRNN_STEP=3 refuses 'did you mean FPRNN_STEPS' --out no
  FPRNN_SHORT_CONV='' refuses FPRNN_SHORT_CONV --out no
  printf '{"steps": 3}\0{' >zero.json && refuses 'zero byte' --config zero.json --out no
  (printf '{"steps":' && head -c 400000 /dev/zero | tr '\0' '[') >deep.json && refuses 'nested' --config deep.json --out no
  [ ! -e no ] || die "a refused run left a folder"

  refuses 1 absent --config absent.json
  refuses 1 absent --resume absent
  refuses 1 absent --evaluate absent
  refuses 1 absent --compare absent
  touch file
  refuses 1 file/run --out file/run

  train a
  refuses 'a run in it' --out a
  refuses d_state --resume a --d-state 8
  refuses lr --resume a --lr 1
  refuses d_model --evaluate a --d-model 16
  cp -r a odd && sed -i 's/"state_dropout": 0.1/"state_dropout": 1.5/' odd/config.json
  (unset FPRNN_STATE_DROPOUT && refuses rate --resume odd)

  # A damaged checkpoint is an error, and the run stays as it was.
  cp -r a broken
  truncate -s -1 "broken/$(cat a/LATEST)/optimiser.safetensors"
  refuses 1 optimiser.safetensors --resume broken
  echo ../../a >broken/LATEST
  refuses 1 LATEST --resume broken
  rm a/eval.json broken/eval.json
  refuses 1 eval.json --compare a

  # No room on the disk, as a limit on the size of files.
  (ulimit -f 2 && refuses 1 'too large' --d-model 32 --out full)
  [ ! -e full/LATEST ] || die "a checkpoint that did not fit"
  [ -z "$(find full/checkpoints -type f 2>/dev/null)" ] || die "half a checkpoint"

  refuses 1 'must be finite' --lr 1e30 --warmup 0 --out nan
  [ ! -e nan/eval.json ] || die "a failed run was evaluated"
}

# start RUN ARGUMENT...: a long run without checkpoints before its end, in the background.
start() {
  "$program" --steps 100000 --checkpoint-every 0 "${@:2}" --out "$1" >"$1.log" 2>"$1.err" &
  await "$1/metrics.jsonl"
}
# ended CODE: the program in the background is soon at its end, with that code.
ended() {
  local code=$1 status=0 i
  for i in $(seq 1000); do
    kill -0 $! 2>/dev/null || break
    sleep 0.01
  done
  kill -KILL $! 2>/dev/null || true
  wait $! 2>/dev/null || status=$?
  [ "$status" -eq "$code" ] || die "status $status, not $code"
}
# saved RUN: its newest checkpoint is that of its last step, and it goes on from there.
saved() {
  local step
  step=$(tail -n 1 "$1/metrics.jsonl" | sed -E 's/.*"step": ([0-9]+),.*/\1/')
  [ "$(cat "$1/LATEST")" = "checkpoints/step_$(printf %08d "$step")" ] || die "$1: step $step is not saved"
  run --resume "$1" --steps 100000 --time-limit 0.01 --eval-lengths 4 --eval-every 0
  grep -q " from step $step," log || die "$1 does not go on from step $step: $(cat log)"
}

case_end() {
  local signal words run status=0
  for signal in HUP TERM INT; do
    start "$signal"
    kill "-$signal" $!
    ended 130
    saved "$signal"
  done
  (trap '' HUP && start nohup && kill -HUP $! && sleep 0.1 && kill -KILL $!) || die "SIGHUP counts although it is ignored"

  # While a model is made, and within one sequence of an evaluation.
  "$program" --d-model 4096 --layers 16 --out early >early.log 2>&1 &
  await early.log
  kill -INT $!
  ended 130
  start long --eval-every 3 --eval-lengths 2000000 --eval-sequences 1
  await long/LATEST  # which is written before the evaluation
  sleep 0.1
  kill -TERM $!
  ended 130
  saved long

  # A reader that goes, and no room for what is said.
  set +o pipefail
  "$program" --steps 100000 --checkpoint-every 0 --eval-every 1 --out pipe 2>pipe.err | head -n 3 >/dev/null
  [ "${PIPESTATUS[0]}" -eq 1 ] || die "a broken pipe"
  set -o pipefail
  grep -q 'Broken pipe' pipe.err && [ "$(wc -l <pipe.err)" -eq 1 ] || die "a broken pipe: $(cat pipe.err)"
  saved pipe
  for words in --help --version "--steps 3 --out room"; do
    status=0
    # shellcheck disable=SC2086
    "$program" $words >/dev/full 2>full.err || status=$?
    [ "$status" -eq 1 ] && grep -q 'No space' full.err || die "$words, no room: $status, $(cat full.err)"
  done
  status=0
  "$program" --steps many 2>/dev/full || status=$?
  [ "$status" -eq 2 ] || die "no room for an error: $status"

  # Streams that are closed are not mistaken for files.
  "$program" --steps 5 --out silent >&- || die "closed output"
  "$program" --steps 5 --out closed <&- >&- 2>&- || die "closed streams"
  for run in silent closed; do
    [ "$(grep -c '^{"step".*}$' "$run/metrics.jsonl")" -eq 5 ] && [ "$(wc -l <"$run/metrics.jsonl")" -eq 5 ] ||
      die "output in metrics.jsonl"
  done

  # An evaluation that fails, for a file's sake and for memory.
  train bad --steps 100000 --checkpoint-every 0 --eval-every 7 --time-limit 0.01
  rm bad/eval.json && mkdir bad/eval.json
  refuses 1 eval.json --resume bad --steps 100000 --time-limit 0
  rmdir bad/eval.json
  saved bad
  if (ulimit -v 4000000 && "$program" --version >/dev/null 2>&1); then
    (ulimit -v 4000000 && refuses 1 '32, 50000000' --steps 100000 --eval-every 3 --eval-lengths 4,50000000 --checkpoint-every 0 --out memory)
    saved memory
  fi
}

case_folder() {
  train a
  train part --time-limit 0.01
  cp -r part lost && rm lost/LATEST
  run --resume lost --time-limit 0
  grep -q 'from step [1-9]' log || die "a run without LATEST starts again: $(cat log)"
  [ "$(result_of lost)" = "$(result_of a)" ] || die "a run without LATEST ends otherwise"
  cp -r part bare && rm -r bare/LATEST bare/checkpoints
  refuses 'checkpoints are gone' --resume bare

  # Parts of a checkpoint that are not of one step; weights that are no numbers.
  local checkpoint
  checkpoint=$(cat part/LATEST)
  cp -r part step && sed -i -E 's/("step": )[0-9]+/\1700/' "step/$checkpoint/state.json"
  refuses 1 cursor --resume step
  sed -i -E 's/("cursor": )[0-9]+/\1700/' "step/$checkpoint/state.json"
  refuses 1 "optimiser's steps" --resume step
  cp -r a sick
  printf '\0\0\0\0\0\0\xf8\x7f' | dd "of=sick/$last_checkpoint/model.safetensors" bs=1 conv=notrunc status=none \
    seek=$(($(stat -c %s "sick/$last_checkpoint/model.safetensors") - 8))
  "$program" --evaluate sick >sick.log 2>sick.err || die "$(cat sick.err)"
  grep -q 'warning.*finite.*layers' sick.err || die "not a word of weights that are not finite: $(cat sick.err)"

  # Folders with something in them.
  mkdir old && cp a/metrics.jsonl old
  refuses old --out old
  cmp -s a/metrics.jsonl old/metrics.jsonl && [ "$(ls old)" = metrics.jsonl ] || die "a refused run wrote"
  cp a/eval.json before.json
  refuses 'a run in it' --evaluate part --out a
  refuses 'a run in it' --compare a --out a
  run --evaluate part --out results
  refuses results --evaluate a --out results
  refuses results --out results
  refuses results --compare a --out results
  cmp -s before.json a/eval.json || die "results were replaced"
  run --compare a --out both
  run --compare a,part --out both

  # Two programs in one folder, and metrics that somebody takes away, replaces or cuts.
  start busy
  refuses busy --resume busy --steps 100000
  refuses busy --out busy
  strike
  run --resume busy --steps 100000 --time-limit 0.01  # its lock went with it
  local how
  # shellcheck disable=SC2016
  for how in 'rm $metrics' 'cp $metrics x && mv x $metrics' 'truncate -s 10 $metrics' 'echo >>$metrics'; do
    rm -rf taken && start taken
    metrics=taken/metrics.jsonl bash -ec "$how"
    ended 1
    grep -q metrics.jsonl taken.err || die "$how: $(cat taken.err)"
  done
}

case_no_gpu() {
  export CUDA_VISIBLE_DEVICES=-1
  train a --device auto --steps 1
  grep -q '"device": "cpu"' a/eval.json || die "auto did not compute on the CPU: $(cat a/eval.json)"
  train b --device cpu --steps 1
  [ "$(result_of a)" = "$(result_of b)" ] || die "auto and cpu differ"
  refuses 1 cuda --device cuda --steps 1 --out no
  [ ! -e no ] || die "a refused run left a folder"
  refuses 1 cuda --device cuda --evaluate a --out no
}

"case_$2"
