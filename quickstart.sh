#!/usr/bin/env bash
# Installs what is missing, builds, and trains a state tracker on the CPU until it generalises.
# Arguments are handed to the training program, as in ./quickstart.sh --seed 2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. cmake/setup.sh

say "1. What is needed"
setup
say "2. Building (minutes the first time, seconds later)"
build release --target state_tracking || fail 1 "The build failed."
say "3. Training"
exec build/release/bin/state_tracking --group S3 --train-length 8 "$@"
