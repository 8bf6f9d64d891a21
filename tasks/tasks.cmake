# What the task executables share: tasks and their metrics, reports, and runs from settings to results. Sources are
# listed in reading order; a folder uses only those above it. It is installed as fprnn::tasks; fmt, nlohmann_json and
# CLI11 stay in its source files.
add_library(fprnn_tasks STATIC EXCLUDE_FROM_ALL
  tasks/metrics.cpp tasks/protocols.cpp tasks/group.cpp tasks/alphabet.cpp tasks/hold_out.cpp tasks/word_problem.cpp
  tasks/arithmetic.cpp tasks/string_copying.cpp tasks/recall_tasks.cpp
  tasks/text.cpp tasks/markov_text.cpp tasks/named_text.cpp tasks/language_modelling.cpp tasks/sampling.cpp
  tasks/babi/files.cpp tasks/babi/stories.cpp tasks/babi/people.cpp tasks/babi/things.cpp tasks/babi/simulator.cpp
  tasks/babi/lanes.cpp tasks/babi/catbabi.cpp
  tasks/decode.cpp
  tasks/report/record.cpp tasks/report/record_json.cpp tasks/report/record_reader.cpp tasks/report/axis.cpp
  tasks/report/table.cpp tasks/report/report.cpp tasks/report/chart.cpp tasks/report/names.cpp
  tasks/report/plot.cpp
  tasks/report/run_groups.cpp tasks/report/curves.cpp tasks/report/svg.cpp tasks/report/summary.cpp
  tasks/run/output.cpp tasks/run/interrupt.cpp tasks/run/command_line.cpp tasks/run/options.cpp
  tasks/run/solves.cpp tasks/run/train_options.cpp tasks/run/conditions.cpp tasks/run/train.cpp tasks/run/evaluate.cpp tasks/run/examples.cpp tasks/run/predict.cpp tasks/run/run_directory.cpp
  tasks/run/goals.cpp tasks/run/best.cpp tasks/run/invocation.cpp tasks/run/compare.cpp tasks/run/child.cpp tasks/run/seeds.cpp tasks/run/program.cpp)
add_library(fprnn::tasks ALIAS fprnn_tasks)
target_link_libraries(fprnn_tasks PUBLIC fprnn
  PRIVATE $<BUILD_INTERFACE:fprnn_flags> $<BUILD_INTERFACE:${fmt_of_library}>
          $<BUILD_INTERFACE:nlohmann_json::nlohmann_json> $<BUILD_INTERFACE:CLI11::CLI11>)
set_target_properties(fprnn_tasks PROPERTIES EXPORT_NAME tasks POSITION_INDEPENDENT_CODE ON)
target_compile_options(fprnn_tasks PRIVATE $<$<CONFIG:Release>:-O1>)  # hot loops are the library's
fprnn_precompile(fprnn_tasks <algorithm> <filesystem> <string> <vector> <fmt/format.h> <nlohmann/json.hpp>)
