# Task executables, bench, golden and the tests; all land in bin/.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

function(fprnn_program name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE fprnn fprnn_flags fmt::fmt-header-only
                        nlohmann_json::nlohmann_json CLI11::CLI11 OpenMP::OpenMP_CXX)
endfunction()

if(FPRNN_BUILD_TESTS)
  enable_testing()
  fprnn_program(tests tests/main.cpp)
  target_link_libraries(tests PRIVATE doctest::doctest)
  target_compile_definitions(tests PRIVATE FPRNN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME tests COMMAND tests)

  fprnn_program(golden tests/golden.cpp)
  target_compile_definitions(golden PRIVATE FPRNN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME golden COMMAND golden)
endif()
