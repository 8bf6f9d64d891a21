# FPRNN_QUICK_BUILD is for those who build to test: fmt is its shared library, where it would be headers that every
# file that prints compiles again, for seconds; headers that most files include are precompiled; programs and tests
# are hardly optimised, the library as ever. What is built then runs where fmt's library is.
set(fmt fmt::fmt-header-only)
set(fmt_of_library fmt::fmt-header-only)
if(FPRNN_QUICK_BUILD AND TARGET fmt::fmt)
  set(fmt fmt::fmt)
  if(NOT FPRNN_INSTALL)  # the package needs no fmt
    set(fmt_of_library fmt::fmt)
  endif()
endif()

function(fprnn_precompile target)
  if(FPRNN_QUICK_BUILD)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()
function(fprnn_optimise_little target)
  if(FPRNN_QUICK_BUILD)
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
endfunction()
