# Task executables, bench, golden and the tests; all land in bin/.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

function(fprnn_program name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE fprnn fprnn_flags ${fmt}
                        nlohmann_json::nlohmann_json CLI11::CLI11 OpenMP::OpenMP_CXX)
  fprnn_optimise_little(${name})
endfunction()

include(tasks/tasks.cmake)

# Kernels of programs, in objects of their own as the library's: the rungs below those in use
# (cuda/ladder/README.md), for bench and the tests; the copy that bench compares with.
if(FPRNN_CUDA)
  add_library(fprnn_ladder OBJECT EXCLUDE_FROM_ALL cuda/ladder/scan.cu cuda/ladder/solve.cu)
  add_library(fprnn_limits OBJECT EXCLUDE_FROM_ALL bench/limits_gpu.cu)
  fprnn_cuda_flags(fprnn_ladder)
  fprnn_cuda_flags(fprnn_limits)
endif()
function(fprnn_use_kernels target)
  foreach(objects ${ARGN})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
  endforeach()
  target_link_libraries(${target} PRIVATE CUDA::cudart_static)
endfunction()

# What docs/paper.md is made by, without its main: for the program and the tests.
set(paper bench/paper/rows.cpp bench/paper/runs.cpp bench/paper/selection.cpp bench/paper/tables.cpp bench/paper/charts.cpp
    bench/paper/both.cpp bench/paper/document.cpp)

if(FPRNN_BUILD_PROGRAMS)
  foreach(task state_tracking copying recall mod_arithmetic language_model catbabi)
    fprnn_program(${task} tasks/${task}.cpp)
    target_link_libraries(${task} PRIVATE fprnn_tasks)
  endforeach()

  fprnn_program(bench bench/main.cpp bench/measure.cpp bench/kernels.cpp bench/rivals.cpp bench/layer.cpp bench/models.cpp)
  target_link_libraries(bench PRIVATE fprnn_tasks)
  fprnn_program(paper bench/paper/main.cpp ${paper})
  target_link_libraries(paper PRIVATE fprnn_tasks)
  fprnn_kernels(bench bench/limits_kernel.cpp)
  if(FPRNN_CUDA)
    target_sources(bench PRIVATE bench/ladder.cpp)
    fprnn_use_kernels(bench fprnn_ladder fprnn_limits)
  endif()
  if(FPRNN_OPENBLAS)
    # The OpenMP variant shares our threads; two pools that spin would spoil each other's figures.
    find_library(FPRNN_OPENBLAS_LIBRARY openblas PATH_SUFFIXES openblas-openmp REQUIRED)
    target_link_libraries(bench PRIVATE ${FPRNN_OPENBLAS_LIBRARY})
    target_compile_definitions(bench PRIVATE FPRNN_OPENBLAS=1)
  endif()
endif()

if(FPRNN_BUILD_TESTS)
  enable_testing()
  if(FPRNN_FUZZ)
    include(tests/fuzz/fuzz.cmake)
    return()
  endif()
  # Every op with its plain loop: what several programs of tests share.
  set(common
      tests/main.cpp tests/reference.cpp tests/reference_mixers.cpp tests/reference_recurrent.cpp
      tests/reference_act.cpp tests/reference_pd_scan.cpp tests/reference_ssd.cpp tests/reference_delta_rule.cpp
      tests/reference_attention.cpp tests/reference_xlstm.cpp tests/run_case.cpp tests/finite_difference.cpp
      tests/op_table.cpp tests/op_table_elementwise.cpp tests/op_table_layout.cpp tests/op_table_products.cpp
      tests/op_table_norms.cpp tests/op_table_recurrences.cpp tests/op_table_ssd.cpp tests/op_table_delta_rule.cpp
      tests/op_table_attention.cpp tests/op_table_xlstm.cpp tests/op_table_mixers.cpp tests/op_table_recurrent.cpp
      tests/op_table_act.cpp tests/op_table_pd_scan.cpp tests/op_table_fp_mamba.cpp tests/rewrite.cpp)
  fprnn_program(tests ${common}
    tests/test_op_table.cpp tests/test_products.cpp tests/test_vjp.cpp tests/test_tape.cpp tests/test_own_op.cpp tests/test_core.cpp
    tests/test_thread_pool.cpp tests/test_processors.cpp tests/test_solver_version.cpp tests/test_vector_math.cpp
    tests/test_large_numbers.cpp tests/test_large_steps.cpp tests/test_extents.cpp tests/test_extents_layers.cpp
    tests/test_fp_mamba_solve.cpp tests/test_parameters.cpp tests/test_models.cpp tests/test_recurrent.cpp
    tests/test_act.cpp tests/test_pd_ssm.cpp tests/test_mamba2.cpp tests/test_delta_net.cpp tests/test_transformer.cpp
    tests/test_deq.cpp tests/test_xlstm.cpp tests/test_fp_block.cpp tests/test_cells.cpp tests/test_sequence_model.cpp
    tests/test_settings.cpp tests/test_settings_refused.cpp tests/test_registry.cpp tests/test_adamw.cpp tests/test_recall.cpp
    tests/test_catbabi.cpp tests/test_catbabi_task.cpp tests/test_lanes.cpp tests/babi_replay.cpp
    tests/test_train.cpp tests/test_tasks.cpp tests/test_arithmetic.cpp tests/test_arithmetic_metrics.cpp tests/malformed.cpp tests/test_file.cpp tests/test_lines.cpp
    tests/test_safetensors.cpp tests/test_safetensors_writer.cpp tests/test_checkpoint.cpp
    tests/test_checkpoint_files.cpp tests/test_saved_model.cpp tests/test_run_checkpoints.cpp tests/test_fixed_point.cpp tests/test_picard.cpp
    tests/test_patience.cpp tests/test_implicit_gradient.cpp tests/test_train_fixed_point.cpp tests/fp_cases.cpp
    tests/test_fp_layers.cpp tests/test_fp_gradients.cpp tests/test_fp_claims.cpp tests/test_fp_roots.cpp tests/test_own_mixers.cpp
    tests/test_automatic_solver.cpp tests/test_kronecker_solve.cpp tests/test_record.cpp tests/test_run_folder.cpp tests/test_report.cpp
    tests/test_string_copying.cpp tests/test_many_sequences.cpp tests/test_groups.cpp tests/test_alphabets.cpp
    tests/test_protocols.cpp tests/test_carried.cpp tests/test_language.cpp tests/test_sampling.cpp
    tests/test_svg.cpp tests/test_figures.cpp tests/test_seeds.cpp tests/test_goals.cpp tests/test_best.cpp tests/test_examples.cpp tests/test_sweeps.cpp tests/test_mixer_bounds.cpp tests/test_cuda.cpp tests/test_cuda_forms.cpp
    tests/test_cuda_layers.cpp tests/test_cuda_training.cpp tests/test_cuda_large.cpp tests/test_paper.cpp ${paper})
  target_link_libraries(tests PRIVATE fprnn_tasks doctest::doctest)
  if(FPRNN_CUDA)
    target_sources(tests PRIVATE tests/test_ladder.cpp)
    fprnn_use_kernels(tests fprnn_ladder)
  endif()
  set(headers_of_tests <algorithm> <cmath> <filesystem> <fstream> <functional> <map> <set> <vector>
      <doctest/doctest.h> <fmt/format.h> <fprnn/ops/ops.h>)
  fprnn_precompile(tests ${headers_of_tests})
  target_compile_definitions(tests PRIVATE FPRNN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME tests COMMAND tests)
  add_test(NAME tests_baseline COMMAND tests)
  set_tests_properties(tests_baseline PROPERTIES ENVIRONMENT "ISA=baseline")

  # What CUDA changes in the code of the tests, to be compiled and linked where no GPU can run them (test.sh).
  if(FPRNN_CUDA)
    fprnn_program(tests_gpu EXCLUDE_FROM_ALL ${common}
      tests/test_own_op.cpp tests/test_cells.cpp tests/test_sweeps.cpp tests/fp_cases.cpp tests/test_ladder.cpp
      tests/test_cuda.cpp tests/test_cuda_forms.cpp tests/test_cuda_layers.cpp tests/test_cuda_training.cpp tests/test_cuda_large.cpp)
    target_link_libraries(tests_gpu PRIVATE fprnn_tasks doctest::doctest)
    target_compile_definitions(tests_gpu PRIVATE FPRNN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    fprnn_use_kernels(tests_gpu fprnn_ladder)
    fprnn_precompile(tests_gpu ${headers_of_tests})
  endif()

  # What threads do together, under ThreadSanitizer: the other tests are of one thread, or of the same code.
  if(FPRNN_SANITIZE STREQUAL "thread")
    fprnn_program(tests_threads ${common}
      tests/test_thread_pool.cpp tests/test_op_table.cpp tests/test_train.cpp)
    target_link_libraries(tests_threads PRIVATE fprnn_tasks doctest::doctest)
    target_compile_definitions(tests_threads PRIVATE FPRNN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    add_test(NAME tests_threads COMMAND tests_threads
             "--test-case=thread pool:*,train: losses and weights*,op table: the number of threads*")
    # What OpenMP's own library does is not for us to judge.
    set_tests_properties(tests_threads PROPERTIES ENVIRONMENT "TSAN_OPTIONS=ignore_noninstrumented_modules=1 die_after_fork=0")
  endif()

  if(FPRNN_BUILD_PROGRAMS)
    foreach(case run kill misuse end folder no_gpu)
      add_test(NAME state_tracking_${case}
               COMMAND bash ${PROJECT_SOURCE_DIR}/tests/state_tracking.sh
                       $<TARGET_FILE:state_tracking> ${case})
    endforeach()
    add_test(NAME state_tracking_alphabets
             COMMAND bash ${PROJECT_SOURCE_DIR}/tests/alphabets.sh $<TARGET_FILE:state_tracking>)
    add_test(NAME state_tracking_protocols
             COMMAND bash ${PROJECT_SOURCE_DIR}/tests/protocols.sh $<TARGET_FILE:state_tracking>)
    add_test(NAME seeds COMMAND bash ${PROJECT_SOURCE_DIR}/tests/seeds.sh $<TARGET_FILE:state_tracking>)
    add_test(NAME examples COMMAND bash ${PROJECT_SOURCE_DIR}/tests/examples.sh $<TARGET_FILE:state_tracking>)
    add_test(NAME copying_run COMMAND bash ${PROJECT_SOURCE_DIR}/tests/copying.sh $<TARGET_FILE:copying>)
    add_test(NAME mod_arithmetic_run COMMAND bash ${PROJECT_SOURCE_DIR}/tests/mod_arithmetic.sh $<TARGET_FILE:mod_arithmetic>)
    add_test(NAME language_model_run
             COMMAND bash ${PROJECT_SOURCE_DIR}/tests/language_model.sh $<TARGET_FILE:language_model>)
    set(kill bash ${PROJECT_SOURCE_DIR}/tests/kill.sh)
    add_test(NAME copying_kill COMMAND ${kill} $<TARGET_FILE:copying> --letters 4 --string-lengths 4,6
             --train-length 24 --eval-lengths 8)
    add_test(NAME recall_kill COMMAND ${kill} $<TARGET_FILE:recall> --variant mqar --vocabulary 16 --keys 2
             --train-length 16 --eval-lengths 16 --model mamba)
    add_test(NAME mod_arithmetic_kill COMMAND ${kill} $<TARGET_FILE:mod_arithmetic> --variant brackets
             --train-length 12 --eval-lengths 12)
    add_test(NAME tools COMMAND bash ${PROJECT_SOURCE_DIR}/tests/tools.sh $<TARGET_FILE:state_tracking>)
    set_tests_properties(tools PROPERTIES SKIP_RETURN_CODE 77)
    add_test(NAME paper COMMAND bash ${PROJECT_SOURCE_DIR}/tests/paper.sh ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
    add_test(NAME paper_document COMMAND sh ${PROJECT_SOURCE_DIR}/docs/paper/report --check)
    set_tests_properties(paper_document PROPERTIES ENVIRONMENT "BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
    add_test(NAME catbabi_run COMMAND bash ${PROJECT_SOURCE_DIR}/tests/catbabi.sh $<TARGET_FILE:catbabi>)
  endif()

  fprnn_program(golden tests/golden.cpp tests/golden_recurrent.cpp tests/golden_mamba2.cpp tests/golden_delta.cpp tests/golden_transformer.cpp tests/golden_xlstm.cpp tests/golden_act.cpp tests/golden_pd_ssm.cpp tests/golden_fp_mamba2.cpp)
  fprnn_precompile(golden <cmath> <filesystem> <map> <nlohmann/json.hpp> <fprnn/models/layer.h> <fprnn/ops/ops.h>)
  target_compile_definitions(golden PRIVATE FPRNN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME golden COMMAND golden)

  # Both again on a GPU; where there is none they say so and count as skipped.
  if(FPRNN_CUDA)
    foreach(program tests golden)
      add_test(NAME ${program}_cuda COMMAND ${program})
      set_tests_properties(${program}_cuda PROPERTIES
        ENVIRONMENT "DEVICE=cuda"
        SKIP_REGULAR_EXPRESSION "every (test|case) is skipped")
    endforeach()
  endif()
endif()
