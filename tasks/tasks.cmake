# What the task executables share: tasks and their metrics, reports, and runs from settings to results. Sources are
# listed in reading order; a folder uses only those above it.
add_library(fprnn_tasks STATIC EXCLUDE_FROM_ALL
  tasks/batch.cpp tasks/metrics.cpp tasks/group.cpp tasks/word_problem.cpp
  tasks/report/label.cpp tasks/report/record.cpp tasks/report/record_json.cpp tasks/report/axis.cpp
  tasks/report/report.cpp tasks/report/chart.cpp tasks/report/plot.cpp tasks/report/svg.cpp
  tasks/run/output.cpp tasks/run/interrupt.cpp tasks/run/command_line.cpp tasks/run/options.cpp
  tasks/run/train.cpp tasks/run/evaluate.cpp tasks/run/run_directory.cpp tasks/run/progress.cpp
  tasks/run/program.cpp)
target_link_libraries(fprnn_tasks PUBLIC fprnn
  PRIVATE fprnn_flags ${fmt} nlohmann_json::nlohmann_json CLI11::CLI11)
fprnn_optimise_little(fprnn_tasks)
fprnn_precompile(fprnn_tasks <algorithm> <filesystem> <string> <vector> <fmt/format.h> <nlohmann/json.hpp>)
