#!/usr/bin/env bash
# Installs what is missing, builds, and trains state trackers, on a GPU where there are one and its toolkit
# (CUDA 13) and on the CPU otherwise: FP-Mamba, which generalises, and the best that three learning rates
# make of a 2-layer Mamba of the same width, which does not.
# Arguments are handed to the training program, as in ./quickstart.sh --seed 2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. cmake/setup.sh

say "1. What is needed"
setup
say "2. Building (minutes the first time, seconds later)"
preset=release  # the toolkit alone changes nothing: its build takes longer
if cuda_toolkit_works && gpu_is_there; then preset=cuda; fi
build "$preset" --target state_tracking || fail 1 "The build failed."

program=build/$preset/bin/state_tracking
runs=runs/quickstart-$(date +%Y-%m-%d-%H%M%S)
say "3. Training FP-Mamba"
"$program" --preset quick --out "$runs/fp-mamba" "$@"
compared=$runs/fp-mamba
for lr in 1e-3 3e-3 1e-2; do
  say "4. Training a 2-layer Mamba, learning rate $lr"
  "$program" --preset quick --model mamba --layers 2 --lr "$lr" --out "$runs/mamba-$lr" "$@" >"$runs/mamba-$lr.log"
  compared+=,$runs/mamba-$lr
done
say "5. Side by side"
"$program" --compare "$compared" --out "$runs"
say "All of it: $runs"
