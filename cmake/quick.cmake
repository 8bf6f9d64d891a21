# FPRNN_QUICK_BUILD is for those who build to test: fmt is its shared library, where it would be headers that every
# file that prints compiles again, for seconds; programs and tests are hardly optimised, the library as ever. What is
# built then runs where fmt's library is.
set(fmt fmt::fmt-header-only)
set(fmt_of_library fmt::fmt-header-only)
if(FPRNN_QUICK_BUILD AND TARGET fmt::fmt)
  set(fmt fmt::fmt)
  if(NOT FPRNN_INSTALL)  # the package needs no fmt
    set(fmt_of_library fmt::fmt)
  endif()
endif()

# Headers that most of a target's files include are compiled once; in a project that we are a part of only where it says
# so. A header that a file forgets to include is found where CMAKE_DISABLE_PRECOMPILE_HEADERS is set, as for tsan
# (CMakePresets.json).
function(fprnn_precompile target)
  if(PROJECT_IS_TOP_LEVEL OR FPRNN_QUICK_BUILD)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()
function(fprnn_optimise_little target)
  if(FPRNN_QUICK_BUILD)
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
endfunction()
