# What must be installed. All of it is looked for before anything is reported, so that one message lists
# everything that is missing.
#
# GLOBAL: the library's link interface names these targets, also in the folders of a project that adds
# us as a sub-project. A target that such a project already has is used as it is.
set(missing "")
macro(fprnn_find package target debian)
  if(NOT TARGET ${target})
    find_package(${package} QUIET GLOBAL ${ARGN})
    if(NOT TARGET ${target})
      list(APPEND missing "${package} (Debian, Ubuntu: ${debian})")
    endif()
  endif()
endmacro()

if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  fprnn_find(OpenMP OpenMP::OpenMP_CXX libomp-dev COMPONENTS CXX)
else()
  fprnn_find(OpenMP OpenMP::OpenMP_CXX "g++, which contains it" COMPONENTS CXX)
endif()
fprnn_find(fmt fmt::fmt-header-only libfmt-dev)
fprnn_find(nlohmann_json nlohmann_json::nlohmann_json nlohmann-json3-dev)
if(FPRNN_BUILD_PROGRAMS OR FPRNN_BUILD_TESTS)
  fprnn_find(CLI11 CLI11::CLI11 libcli11-dev)
endif()
if(FPRNN_BUILD_TESTS)
  fprnn_find(doctest doctest::doctest doctest-dev)
endif()

if(missing)
  list(JOIN missing "\n  " missing)
  message(FATAL_ERROR "fprnn does not find\n  ${missing}\n"
    "Install them, or name their prefixes in CMAKE_PREFIX_PATH. The tests and programs, which need more "
    "than the library, can be left out with -DFPRNN_BUILD_TESTS=OFF -DFPRNN_BUILD_PROGRAMS=OFF.")
endif()
