# FPRNN_QUICK_BUILD, for those who build to test. The library's code is as ever. Other than that fmt is its shared
# library, where it would be headers that every file that prints compiles again for seconds; widely included
# headers are precompiled; and what is not the library is hardly optimised. Programs then run where fmt's library is.
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
