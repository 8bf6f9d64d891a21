#!/bin/sh
# public_headers.sh FOLDER...
# Headers are installed; what they include, every consumer needs.
set -eu
if grep -rnE --include='*.h' '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"](fmt/|nlohmann/|CLI/|doctest|omp\.h|cu(da|blas)|fprnn/cuda/)' "$@"; then
  echo "public headers must not include these"
  exit 1
fi
if grep -rnE --include='*.h' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$@"; then
  echo "headers are included as <fprnn/folder/file.h>"
  exit 1
fi
echo "public headers include the standard library and <fprnn/...> alone"
