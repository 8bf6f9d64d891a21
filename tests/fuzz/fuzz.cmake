# The readers of files under libFuzzer (preset fuzz, with Clang): each begins with its corpus and goes on for some
# seconds. For longer: build/fuzz/bin/fuzz_config FOLDER tests/fuzz/corpus/config -max_total_time=3600
# The library's files that they need, so that no other is built.
add_library(fprnn_readers STATIC
  core/check.cpp core/fault.cpp core/shape.cpp core/memory.cpp core/thread_pool.cpp core/processors.cpp core/context.cpp
  core/no_gpu.cpp core/tensor.cpp core/text.cpp core/file.cpp models/safetensors.cpp models/checkpoint_state.cpp core/settings.cpp
  tasks/report/record.cpp tasks/report/record_json.cpp tasks/report/record_reader.cpp tasks/babi/stories.cpp tasks/babi/files.cpp)
target_compile_features(fprnn_readers PUBLIC cxx_std_20)
target_include_directories(fprnn_readers PUBLIC ${FPRNN_INCLUDE})
target_link_libraries(fprnn_readers PUBLIC fprnn_flags ${fmt} nlohmann_json::nlohmann_json OpenMP::OpenMP_CXX)
fprnn_precompile(fprnn_readers <algorithm> <string> <vector> <nlohmann/json.hpp>)

add_custom_target(fuzz)
foreach(reader safetensors state config metrics evaluation stories)
  add_executable(fuzz_${reader} tests/fuzz/readers.cpp)
  target_compile_definitions(fuzz_${reader} PRIVATE FUZZED=${reader})
  target_link_libraries(fuzz_${reader} PRIVATE fprnn_readers)
  target_link_options(fuzz_${reader} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzz fuzz_${reader})
  set(found ${PROJECT_BINARY_DIR}/fuzz/${reader})
  file(MAKE_DIRECTORY ${found})
  add_test(NAME fuzz_${reader}
           COMMAND fuzz_${reader} ${found} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${reader}
                   -max_total_time=3 -timeout=10 -artifact_prefix=${found}-failed-)
endforeach()
