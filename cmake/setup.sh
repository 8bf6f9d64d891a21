# shellcheck shell=bash
# Sourced by quickstart.sh and test.sh, from the repository's root: messages, logs, what must be installed
# and what there is for a GPU. The packages' names are Debian's and Ubuntu's.

logs=build/logs
jobs=$(nproc)
wanted=()   # beyond what every build needs: clang, pkg-config, numpy
options=()  # -D arguments of every configuration

say() { printf '%s\n' "$*"; }
fail() { # exit code, message
  printf '%s\n' "$2" >&2
  exit "$1"
}

# quietly NAME COMMAND...: runs the command with its output in a log, of which only a failure shows the end.
quietly() {
  local log="$logs/$1.log" start=$SECONDS
  mkdir -p "$logs"
  if "${@:2}" >"$log" 2>&1 </dev/null; then
    say "  $1: $((SECONDS - start)) s"
  else
    say "  $1: failed after $((SECONDS - start)) s; the end of $log:"
    tail -n 40 "$log"
    return 1
  fi
}

have() { command -v "$1" >/dev/null; }
have_header() {
  local prefix prefixes
  IFS=':;' read -ra prefixes <<<"/usr:/usr/local:${CMAKE_PREFIX_PATH:-}"
  for prefix in "${prefixes[@]}"; do
    [ -n "$prefix" ] && [ -e "$prefix/include/$1" ] && return
  done
  return 1
}
clang_works() { # with OpenMP
  have clang++ && clang++ -fopenmp -include omp.h -fsyntax-only -x c++ /dev/null 2>/dev/null
}
clang_has() { # the runtime of a preset, tsan or fuzz
  local program='int main() {}' option=-fsanitize=thread
  if [ "$1" = fuzz ]; then
    program='extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
    option=-fsanitize=fuzzer,address,undefined
  fi
  clang++ "$option" -x c++ - -o /dev/null 2>/dev/null <<<"$program"
}

# nvcc of CUDA 13 or newer. An older one is as good as none: the CPU does it all.
cuda_toolkit_works() {
  local release
  release=$("${CUDACXX:-nvcc}" --version 2>/dev/null | sed -n 's/^.*release \([0-9]*\)\..*$/\1/p') || true
  [ "${release:-0}" -ge 13 ]
}
gpu_is_there() { [ -e /dev/nvidia0 ] || nvidia-smi -L >/dev/null 2>&1; }

# Prints the packages that are missing, one a line.
missing_packages() {
  have "${CXX:-c++}" || echo g++
  have cmake || echo cmake
  have ninja || have make || echo ninja-build
  have_header fmt/core.h || echo libfmt-dev
  have_header nlohmann/json.hpp || echo nlohmann-json3-dev
  have_header CLI/CLI.hpp || echo libcli11-dev
  have_header doctest/doctest.h || echo doctest-dev
  local tool
  for tool in "${wanted[@]}"; do
    case $tool in
      clang) clang_works || printf '%s\n' clang libomp-dev ;;
      pkg-config) have pkg-config || echo pkg-config ;;
      numpy) python3 -c 'import numpy' 2>/dev/null || /usr/bin/python3 -c 'import numpy' 2>/dev/null || echo python3-numpy ;;
    esac
  done
}

# Installs what is missing where that may be done without asking, and otherwise says what to install.
setup() {
  local packages as_root=()
  mapfile -t packages < <(missing_packages)
  if [ ${#packages[@]} -gt 0 ]; then
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    if ! have apt-get || ! "${as_root[@]}" true 2>/dev/null; then
      fail 2 "Please install these packages (Debian's and Ubuntu's names) and run this again:
  ${packages[*]}
With apt: sudo apt-get update && sudo apt-get install --no-install-recommends ${packages[*]}"
    fi
    say "Installing ${packages[*]}"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get)
    quietly apt-update "${apt[@]}" update || say "  trying with the package lists there are"
    quietly apt-install "${apt[@]}" install --yes --no-install-recommends "${packages[@]}" || exit 1
    mapfile -t packages < <(missing_packages)
    [ ${#packages[@]} -eq 0 ] || fail 1 "Still missing after installing: ${packages[*]}"
  fi

  local version
  version=$(cmake --version | sed -n '1s/[^0-9]*//p')
  if [ "$(printf '%s\n' 3.24 "$version" | sort -V | head -n 1)" != 3.24 ]; then
    fail 2 "CMake 3.24 or newer is needed, this is $version. Debian 12 and Ubuntu 24.04 have it."
  fi
  # Only for folders that are not configured yet: CMake keeps a folder's generator.
  if [ -z "${CMAKE_GENERATOR:-}" ] && have ninja; then export CMAKE_GENERATOR=Ninja; fi
}

# build PRESET [CMAKE-BUILD-ARGUMENT...]
build() {
  quietly "$1-configure" cmake --preset "$1" "${options[@]}" &&
    quietly "$1-build" cmake --build --preset "$1" --parallel "$jobs" "${@:2}"
}
