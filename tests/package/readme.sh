#!/usr/bin/env bash
# readme.sh BUILD CXX: does what the README says. Its C++ program is built with its CMake file against the
# installed package and run; its shell lines are run from the root of the repository, but quickstart.sh
# trains for 200 steps and evaluates 64 sequences: what it learns is for docs/results.md to say.
set -euo pipefail
build=$1 cxx=$2
scratch=$build/readme
rm -rf "$scratch"
mkdir -p "$scratch"

# blocks LANGUAGE: the lines of all fenced blocks of that language.
blocks() {
  awk -v fence='```'"$1" '$0 == fence { inside = 1; next } $0 == "```" { inside = 0 } inside' README.md
}

blocks cpp >"$scratch/main.cpp"
blocks cmake >"$scratch/CMakeLists.txt"
[ -s "$scratch/main.cpp" ] && [ -s "$scratch/CMakeLists.txt" ] || { echo "the README shows no program"; exit 1; }
prefix=$(find "$build" -path '*/lib*/cmake/fprnn/fprnnConfig.cmake' -print -quit)
[ -n "$prefix" ] || { echo "the package is not installed below $build"; exit 1; }
cmake -S "$scratch" -B "$scratch/build" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=Release \
  -Dfprnn_DIR="$(dirname "$prefix")"
cmake --build "$scratch/build"
echo "--- the program"
"$scratch/build/learn" | tee "$scratch/output"
# It says that it learns: the loss on its last line is below half of that on its first.
awk '{ loss[NR] = $NF } END { exit !(NR > 1 && loss[NR] < loss[1] / 2) }' "$scratch/output"

rm -rf runs/a5  # the folder of a run is not written twice
blocks sh | while IFS= read -r line; do
  echo "--- $line"
  if [ "$line" = ./quickstart.sh ]; then line+=" --steps 200 --eval-sequences 64"; fi
  bash -euo pipefail -c "$line" </dev/null
done
