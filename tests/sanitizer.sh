#!/usr/bin/env bash
# The tests in sanitizer.txt, which start every kernel of cuda/ at small sizes, under a tool of
# compute-sanitizer: tests/sanitizer.sh PROGRAM [TOOL], TOOL being memcheck, racecheck, initcheck or synccheck.
set -euo pipefail
program=$1 tool=${2:-memcheck}
filter=$(paste -sd, "$(dirname "${BASH_SOURCE[0]}")/sanitizer.txt")
# Under racecheck a parallel solve and a training take many minutes; their kernels are those of the others.
if [ "$tool" = racecheck ]; then
  for slow in "cuda: fixed-point layers*" "cuda: a training that is recorded*" "cuda: a wrong token*"; do
    filter=${filter/"$slow,"/}
  done
fi
options=()
if [ "$tool" = memcheck ]; then options=(--leak-check full); fi
DEVICE=cuda SMALL=1 exec compute-sanitizer --tool "$tool" "${options[@]}" --error-exitcode 9 "$program" -tc="$filter"
