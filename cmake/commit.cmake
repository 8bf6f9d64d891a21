# cmake -D GIT=.. -D SOURCE=.. -D HEADER=.. -P commit.cmake: the commit as a header, which is written
# only where it changes.
cmake_minimum_required(VERSION 3.24)
set(commit "")
if(GIT)
  execute_process(COMMAND ${GIT} describe --tags --always --dirty WORKING_DIRECTORY ${SOURCE}
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define FPRNN_COMMIT \"@commit@\"\n" @ONLY)
