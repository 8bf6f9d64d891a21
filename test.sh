#!/usr/bin/env bash
# Installs what is missing, builds and runs every test.
#   ./test.sh                    release, asan-ubsan, double (by clang where it is usable, and then tsan and fuzz),
#                                and cuda where there is nvcc of CUDA 13
#   ./test.sh --all              the same, installing clang if need be; so does CI=true
#   ./test.sh release clang ...  these presets (CMakePresets.json) alone
# Ends with one line, "N passed, N failed, N skipped". Without a GPU the library of cuda is built as PTX of 8.0, files
# that know the GPU's generation of 9.0 too, and linked with the programs and those tests whose code CUDA changes
# (tests_gpu), which are counted as skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. cmake/setup.sh

# What runs in each configuration beside the other tests of ctest. A program prints its own counts at its
# end. tests_baseline is `tests` with the instruction set that every machine has.
programs_of() {
  case $1 in
    release) echo tests tests_baseline golden ;;
    double | clang-double | cuda) echo tests golden ;;
    cuda-check) echo tests_gpu ;;
    tsan | fuzz) ;;  # their programs are tests of ctest
    *) echo tests ;;
  esac
}
# Under the sanitizers, which make all many times slower, what release does goes without what would only repeat
# code that other tests run: gradients beside differences of the tests' own loops, long sequences, trained solvers,
# rounding errors of every float, norms of mixers, evaluations at length 700, 20 killed runs (another one is stopped and
# resumed).
repeated=(
  "op table: gradients equal central differences of the reference" "extents:*" "fp roots:*" "solver version:*"
  "vector math: largest errors over all floats" "mixer bounds:*"
  "local solve: what the iteration does not lead to is found" "train: a task's own metrics are evaluated*"
  "train: a sequence that is no number*" "train: parity of four*" "fp layers: FP-Mamba trains"
)
asan_arguments=(--test-case-exclude="$(IFS=, && printf '%s' "${repeated[*]}")")
asan_ctest=(--tests-regex '^(interoperability|state_tracking_(run|misuse))$')
asan_steps=100
time_limit=1200  # seconds for one program, so that a hang ends

passed=0 failed=0 skipped=0
count() {
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# run_program PRESET NAME [ARGUMENT...]
run_program() {
  local name="$1-$2" log="$logs/$1-$2.log" start=$SECONDS status=0 line numbers
  local program="build/$1/bin/${2%_baseline}" isa=${ISA:-} device=${DEVICE:-cpu}
  case $2 in *_baseline) isa=baseline ;; esac
  case $1 in cuda*) device=cuda ;; esac
  if [ ! -x "$program" ]; then
    say "  $name: skipped, there is no such program in this build"
    count 0 0 1
    return
  fi
  ISA=$isa DEVICE=$device timeout "$time_limit" "$program" "${@:3}" >"$log" 2>&1 </dev/null || status=$?
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1 || true)
  if [ -z "$line" ]; then
    line="0 passed, 1 failed, 0 skipped"  # it did not get to its end
    say "  $name: ended with status $status and without its counts"
  fi
  read -ra numbers <<<"${line//[^0-9 ]/}"
  # A program that says all is well and exits otherwise, as sanitizers make it, has failed once; so has
  # one that ran nothing, unless it is one for a GPU that is not there, and says what it skipped.
  local least=1
  if [ "$1" = cuda-check ] && [ "${numbers[2]}" -gt 0 ]; then least=0; fi
  if [ "$((numbers[0] + numbers[1]))" -lt "$least" ] || { [ "$status" -ne 0 ] && [ "${numbers[1]}" -eq 0 ]; }; then
    numbers[1]=1
  fi
  count "${numbers[@]}"
  say "  $name: ${numbers[0]} passed, ${numbers[1]} failed, ${numbers[2]} skipped, $((SECONDS - start)) s"
  if [ "${numbers[1]}" -ne 0 ]; then
    say "  the end of $log:"
    tail -n 60 "$log"
  fi
}

# Every test of ctest but the programs above and LEFT_OUT; each counts one. run_ctest PRESET [CTEST-ARGUMENT...]
run_ctest() {
  local name="$1-ctest" log="$logs/$1-ctest.log" start=$SECONDS status=0 junit
  junit="$PWD/$logs/$1-ctest.xml"
  rm -f "$junit"
  ctest --preset "$1" --exclude-regex "^(tests|tests_baseline|golden${LEFT_OUT:+|$LEFT_OUT})$" --no-tests=ignore --timeout "$time_limit" \
    --output-junit "$junit" "${@:2}" >"$log" 2>&1 </dev/null || status=$?
  number() { # the named count of the whole suite
    { [ -e "$junit" ] && grep -oE "\b$1=\"[0-9]+\"" "$junit" || true; } | head -n 1 | grep -oE '[0-9]+' || echo 0
  }
  local tests failures skips
  tests=$(number tests) failures=$(number failures) skips=$(($(number skipped) + $(number disabled)))
  if [ "$status" -ne 0 ] && [ "$failures" -eq 0 ]; then failures=1; fi
  local passes=$((tests - failures - skips))
  if [ "$passes" -lt 0 ]; then passes=0; fi
  count "$passes" "$failures" "$skips"
  say "  $name: $passes passed, $failures failed, $skips skipped, $((SECONDS - start)) s"
  if [ "$failures" -ne 0 ]; then
    say "  the end of $log:"
    tail -n 60 "$log"
  fi
}

run_configuration() {
  local preset=$1 start=$SECONDS targets=() arguments=() of_ctest=() steps="" left_out="" program
  case $preset in
    tsan | fuzz)
      if ! clang_has "$preset"; then
        say "$preset: skipped, clang has no runtime for it"
        count 0 0 1
        return
      fi
      ;;
    asan-ubsan)
      targets=(--target tests state_tracking)
      arguments=("${asan_arguments[@]}") of_ctest=("${asan_ctest[@]}") steps=$asan_steps
      ;;
    double | clang-double) left_out='[a-z_]*_kill' ;;  # 20 killed runs are the same in any precision
    cuda)
      targets=(--target tests golden state_tracking copying recall mod_arithmetic language_model catbabi bench paper)
      if ! gpu_is_there; then
        preset=cuda-check targets=(--target tests_gpu state_tracking bench)
        # The others, on the CPU, are those of release; kernels' symbols are another matter at -O0.
        of_ctest=(--tests-regex '^(consumer_|kernel_symbols_|state_tracking_no_gpu$)')
      fi
      ;;
  esac
  say "$preset"
  if build "$preset" "${targets[@]}"; then
    for program in $(programs_of "$preset"); do
      run_program "$preset" "$program" "${arguments[@]}"
    done
    STEPS=$steps LEFT_OUT=$left_out run_ctest "$preset" "${of_ctest[@]}"
  else
    count 0 1 0
  fi
  say "  $preset: $((SECONDS - start)) s in all"
}

presets=() all=no
for argument in "$@"; do
  case $argument in
    --all) all=yes ;;
    release | debug | double | asan-ubsan | clang | clang-double | tsan | fuzz | cuda) presets+=("$argument") ;;
    *) fail 2 "usage: ./test.sh [--all] [release|debug|double|asan-ubsan|clang|clang-double|tsan|fuzz|cuda]..." ;;
  esac
done
if [ "${CI:-}" = true ]; then all=yes; fi

wanted=(pkg-config numpy)  # tests/consumers are built with the one, tests/tools.sh runs the other
if [ ${#presets[@]} -eq 0 ]; then
  presets=(release asan-ubsan)
  if [ "$all" = yes ] || clang_works; then
    # The second compiler and the second precision in one: of the four, GCC's double and Clang's float are left out.
    presets+=(clang-double tsan fuzz)
  else
    presets+=(double)
    say "clang, tsan, fuzz: skipped, there is no clang with OpenMP; ./test.sh --all installs it"
    count 0 0 3
  fi
  if cuda_toolkit_works; then
    presets+=(cuda)
  else
    say "cuda: skipped, there is no nvcc of CUDA 13 or newer on the PATH or in CUDACXX"
    count 0 0 1
  fi
fi
case " ${presets[*]} " in *" clang"* | *" tsan "* | *" fuzz "*) wanted+=(clang) ;; esac

export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
options=(-DFPRNN_WERROR=ON -DFPRNN_QUICK_BUILD=ON)
setup
for preset in "${presets[@]}"; do run_configuration "$preset"; done

say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
