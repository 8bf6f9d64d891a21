#!/bin/sh
# kernel_symbols.sh NM OBJDUMP ISA OBJECT...
# What a kernel file defines for other files to see must lie in its instruction set's namespace. A
# function under a shared name (of std, or an inline one of ours) would be compiled with AVX instructions
# and could be the copy that the linker keeps for every machine. Nor may a kernel file have anything to do before
# main (.init_array), which runs on every machine too.
set -eu
nm=$1 objdump=$2 isa=$3
shift 3

symbols=$("$nm" -A -C --defined-only --extern-only "$@")
[ -n "$symbols" ] || { echo "the objects define no symbols at all"; exit 1; }

# nm prints "file:address type name". DW.ref.* are pointers for exception handling: data, and equal in all
# files.
foreign=$(printf '%s\n' "$symbols" |
  grep -Ev " [A-Za-z] (DW\.ref\.|(.*[^A-Za-z0-9_])?$isa::)" || true)
if [ -n "$foreign" ]; then
  printf 'symbols outside the namespace %s:\n%s\n' "$isa" "$foreign"
  exit 1
fi

sections=$("$objdump" -h "$@")
case $sections in *.text*) ;; *) echo "the objects have no section .text"; exit 1 ;; esac
early=$(printf '%s\n' "$sections" |
  awk '/file format/ { file = $1 } $2 ~ /^\.(preinit_array|init_array|ctors)/ { print file, $2 }')
if [ -n "$early" ]; then
  printf 'code that runs before main:\n%s\n' "$early"
  exit 1
fi
echo "$# objects define nothing outside the namespace $isa, and nothing that runs before main"
