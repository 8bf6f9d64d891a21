# Builds and runs tests/consumers/main.cpp, or the examples, against the library: cmake -DCONSUMER=... -P consumer.cmake.
cmake_minimum_required(VERSION 3.24)

set(scratch ${BINARY}/consumers/${CONSUMER})
set(prefix ${scratch}/prefix)
if(NOT CONSUMER STREQUAL "subdirectory")  # all of the library: rebuilt where it changed
  file(REMOVE_RECURSE ${scratch})
endif()
cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)

function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
set(project ${SOURCE}/tests/consumers/${CONSUMER})
if(CONSUMER STREQUAL "examples")
  set(project ${SOURCE}/examples)
endif()
function(configure)
  run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${project} -B ${scratch}/build
      -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=${BUILD_TYPE} ${ARGN})
endfunction()
function(build_with_cmake programs)  # the first of them is run
  configure(${ARGN})
  run(${CMAKE_COMMAND} --build ${scratch}/build --target ${programs} --parallel ${cores})
  list(GET programs 0 first)
  run(${scratch}/build/${first})
endfunction()

# The library as a part of another project: built once, unoptimised, which is sooner. FetchContent adds the same
# folder in the same way, so there it is enough that the project can be generated.
if(CONSUMER STREQUAL "subdirectory")
  build_with_cmake(consumer -DFPRNN_SOURCE=${SOURCE} -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0
                   -DFPRNN_EVERY_ISA=OFF -DFPRNN_QUICK_BUILD=ON)
elseif(CONSUMER STREQUAL "fetched")
  configure(-DFPRNN_SOURCE=${SOURCE})
elseif(CONSUMER STREQUAL "installed")
  # Moved after installing: the package must not remember where it was.
  run(${CMAKE_COMMAND} --install ${BINARY} --prefix ${scratch}/staged)
  file(RENAME ${scratch}/staged ${prefix})
  build_with_cmake(consumer -DCMAKE_PREFIX_PATH=${prefix})
elseif(CONSUMER STREQUAL "examples")
  build_with_cmake("check;parity;character_model" -DCMAKE_PREFIX_PATH=${BINARY}/consumers/installed/prefix)
  run(${scratch}/build/parity --model my-layer --steps 30 --d-model 16 --train-length 8 --eval-lengths 8,16
      --eval-sequences 64 --threads 2 --device cpu --out ${scratch}/run)
  if(NOT EXISTS ${scratch}/run/eval.json)
    message(FATAL_ERROR "parity wrote no eval.json")
  endif()
  # Learnt by heart, its own text comes back from the checkpoint; of one too short there is nothing to learn.
  file(WRITE ${scratch}/short.txt "short")
  execute_process(COMMAND ${scratch}/build/character_model WORKING_DIRECTORY ${scratch}
                  OUTPUT_VARIABLE written COMMAND_ECHO STDOUT ECHO_OUTPUT_VARIABLE COMMAND_ERROR_IS_FATAL ANY)
  if(NOT written MATCHES "step 200  loss 0[.][0-4].*How many rs are in that[?]")
    message(FATAL_ERROR "character_model has not learnt its text")
  endif()
  execute_process(COMMAND ${scratch}/build/character_model ${SOURCE}/LICENSE lstm WORKING_DIRECTORY ${scratch}
                  COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${scratch}/build/character_model ${scratch}/short.txt WORKING_DIRECTORY ${scratch}
                  RESULT_VARIABLE result ERROR_VARIABLE refusal)
  if(NOT result EQUAL 1 OR NOT refusal MATCHES "the text must be longer than a sequence")
    message(FATAL_ERROR "character_model did not refuse a text that is too short: ${result}, ${refusal}")
  endif()
elseif(CONSUMER STREQUAL "pkg_config")
  find_program(PKG_CONFIG NAMES pkg-config pkgconf)
  if(NOT PKG_CONFIG)
    message("SKIPPED: there is no pkg-config")
    return()
  endif()
  run(${CMAKE_COMMAND} --install ${BINARY} --prefix ${prefix})
  file(GLOB_RECURSE pc ${prefix}/fprnn.pc)
  execute_process(COMMAND ${PKG_CONFIG} --cflags --libs ${pc}
                  OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run(${CXX} -std=c++20 ${SOURCE}/tests/consumers/main.cpp ${flags} -o ${scratch}/consumer)
  run(${scratch}/consumer)
else()
  message(FATAL_ERROR "no such consumer: ${CONSUMER}")
endif()
