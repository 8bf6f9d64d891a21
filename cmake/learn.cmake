# The course, docs/learn: a chapter's text, program, exercises and solutions all have its name. Its programs are made
# by the target `learn`; the tests of its exercises twice, as `exercises` and, with the solutions in their place, as
# `solutions`.
set(learn ${PROJECT_SOURCE_DIR}/docs/learn)
set(chapters 1-scan 2-diagonal 3-fixed-point 4-gradient 5-mixers 6-one-step 7-fp-mamba 8-kernels)

add_library(learn_common STATIC docs/learn/code/program.cpp docs/learn/code/drawing.cpp)
target_link_libraries(learn_common PUBLIC fprnn_tasks PRIVATE fprnn_flags)
add_custom_target(learn)
foreach(program IN LISTS chapters ITEMS 6-krylov)
  fprnn_program(learn_${program} docs/learn/code/${program}.cpp)
  target_link_libraries(learn_${program} PRIVATE learn_common)
  set_target_properties(learn_${program} PROPERTIES
    OUTPUT_NAME ${program} RUNTIME_OUTPUT_DIRECTORY ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/learn)
  add_dependencies(learn learn_${program})
endforeach()

list(TRANSFORM chapters REPLACE "(.+)" "docs/learn/exercises/\\1_test.cpp" OUTPUT_VARIABLE exercise_tests)
foreach(folder exercises solutions)
  fprnn_program(${folder} docs/learn/exercises/main.cpp ${exercise_tests})
  target_include_directories(${folder} PRIVATE docs/learn/${folder})
  target_link_libraries(${folder} PRIVATE fprnn_tasks doctest::doctest)
endforeach()
# Of what is not solved yet; options of a file stand behind those of its target, where Clang minds the order.
set_source_files_properties(${exercise_tests} PROPERTIES COMPILE_OPTIONS -Wno-unused-parameter)

# Text, output and figures are as the programs make them, no sentence is too long; no exercise is solved in advance,
# and all can be.
find_package(Python3 COMPONENTS Interpreter QUIET)
if(Python3_FOUND)
  foreach(chapter IN LISTS chapters)
    add_test(NAME learn_${chapter}
             COMMAND ${Python3_EXECUTABLE} ${learn}/update.py --check
                     --programs ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/learn ${chapter})
    set_tests_properties(learn_${chapter} PROPERTIES TIMEOUT 240)  # a minute in a release build on two cores
  endforeach()
  add_test(NAME learn_prose COMMAND ${Python3_EXECUTABLE} ${learn}/prose.py)
endif()
add_test(NAME exercises COMMAND exercises)
set_tests_properties(exercises PROPERTIES PASS_REGULAR_EXPRESSION "test cases: +[0-9]+ \\| +0 passed \\| +[1-9]")
add_test(NAME solutions COMMAND solutions)
