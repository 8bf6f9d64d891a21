#!/bin/sh
# interoperability.sh TESTS
# Our safetensors files beside those of Python's package, where there is one. 77: skipped, with the reason.
set -eu
if ! command -v python3 >/dev/null; then
  echo "skipped: there is no python3"
  exit 77
fi
exec python3 "$(dirname "$0")/interoperability.py" "$@"
