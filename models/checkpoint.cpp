#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/core/file.h>
#include <fprnn/models/checkpoint.h>
#include <fprnn/models/safetensors.h>
#include <fprnn/models/safetensors_writer.h>

#include <charconv>
#include <filesystem>

namespace fprnn {

namespace {

namespace fs = std::filesystem;

constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimiser = "optimiser.safetensors";
constexpr const char* kState = "state.json";
constexpr const char* kSteps = "steps";  // in the optimiser's metadata
constexpr int64_t kMaxState = 16 << 20;  // bytes

std::string in(const std::string& folder, const char* name) { return folder + "/" + name; }

void write(const SafetensorsWriter& tensors, const std::string& path) {
  OutputFile file(path);
  tensors.write(file);
  file.finish();
}

void write_model(Module& model, const std::string& path) {
  SafetensorsWriter tensors;
  for (const auto& [name, parameter] : model.parameters()) tensors.add(name, parameter->value);
  write(tensors, path);
}

void write_optimiser(const AdamW& optimiser, const std::string& path) {
  SafetensorsWriter tensors;
  const AdamWState state = optimiser.state();
  tensors.add_metadata(kSteps, std::to_string(state.steps));
  for (const auto& [name, mean, variance] : state.moments) {
    tensors.add("mean." + name, mean);
    tensors.add("variance." + name, variance);
  }
  write(tensors, path);
}

// What is replaced is removed, so it must not be anything else.
void check_replaceable(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    require<FileError>(name == kModel || name == kOptimiser || name == kState, "checkpoint",
                       "a folder that is replaced must be a checkpoint: folder and file in it",
                       folder, name);
  }
}

std::string quoted(const Configuration& configuration, const std::string& key) {
  const auto found = configuration.find(key);
  return found == configuration.end() ? "absent" : describe(found->second);
}

void check_configuration(const std::string& folder, const Configuration& saved,
                         const Configuration& expected) {
  Configuration all = saved;
  all.insert(expected.begin(), expected.end());
  std::vector<std::string> differences;
  for (const auto& [key, value] : all) {
    const std::string there = quoted(saved, key), here = quoted(expected, key);
    if (there != here)
      differences.push_back(fmt::format("{} ({} there and {} here)", key, there, here));
  }
  require<ValueError>(
      differences.empty(), "checkpoint",
      fmt::format("the configuration must be the checkpoint's, but these differ: {}",
                  fmt::join(differences, ", ")),
      folder);
}

// A tensor that a file must hold.
struct Wanted {
  std::string name;
  Tensor like;  // shape and Context
};

// The wanted tensors in their order; the file must hold no other.
std::vector<Tensor> read_tensors(const SafetensorsFile& file, const std::string& path,
                                 const std::vector<Wanted>& wanted, const std::string& real) {
  std::map<std::string_view, const SafetensorsEntry*> surplus;
  for (const SafetensorsEntry& entry : file.entries()) surplus.emplace(entry.name, &entry);
  for (const auto& [name, like] : wanted) {
    const auto found = surplus.find(name);
    require<FormatError>(found != surplus.end(), "checkpoint",
                         "every tensor must be there: file and tensor", path, name);
    const SafetensorsEntry& entry = *found->second;
    require<FormatError>(entry.shape == like.shape(), "checkpoint",
                         "shapes must be the model's: file, tensor, its shape and the model's",
                         path, name, entry.shape, like.shape());
    require<FormatError>(entry.dtype == (real == "double" ? "F64" : "F32"), "checkpoint",
                         "dtypes must be those of the state's real type: file, tensor and dtype",
                         path, name, entry.dtype);
    surplus.erase(found);
  }
  require<FormatError>(surplus.empty(), "checkpoint",
                       "no tensor must be there that the model does not have: file and tensor",
                       path, surplus.empty() ? std::string_view() : surplus.begin()->first);
  std::vector<Tensor> tensors;
  for (const auto& [name, like] : wanted) tensors.push_back(file.tensor(like.context(), name));
  return tensors;
}

std::vector<Tensor> read_model(const std::string& path, Module& model, const std::string& real) {
  std::vector<Wanted> wanted;
  for (const auto& [name, parameter] : model.parameters())
    wanted.push_back({name, parameter->value});
  return read_tensors(SafetensorsFile::read(path), path, wanted, real);
}

int64_t read_steps(const SafetensorsFile& file, const std::string& path) {
  const auto found = file.metadata().find(kSteps);
  require<FormatError>(found != file.metadata().end() && file.metadata().size() == 1, "checkpoint",
                       "the metadata must be the optimiser's steps", path);
  const std::string& text = found->second;
  int64_t steps = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), steps);
  require<FormatError>(error == std::errc() && std::to_string(steps) == text && steps >= 0 &&
                           steps <= AdamW::kMaxSteps,
                       "checkpoint", "the optimiser's steps must be in [0, 2^53]: file and steps",
                       path, text);
  return steps;
}

AdamWState read_optimiser(const std::string& path, const AdamW& optimiser,
                          const std::string& real) {
  const SafetensorsFile file = SafetensorsFile::read(path);
  AdamWState state = optimiser.state();
  state.steps = read_steps(file, path);
  std::vector<Wanted> wanted;
  for (const auto& [name, mean, variance] : state.moments) {
    wanted.push_back({"mean." + name, mean});
    wanted.push_back({"variance." + name, variance});
  }
  const std::vector<Tensor> tensors = read_tensors(file, path, wanted, real);
  for (size_t i = 0; i < state.moments.size(); ++i) {
    state.moments[i].mean = tensors[2 * i];
    state.moments[i].variance = tensors[2 * i + 1];
  }
  return state;
}

}  // namespace

void save_checkpoint(const std::string& folder, Module& model, const AdamW& optimiser,
                     const CheckpointState& state) {
  check_replaceable(folder);
  const std::string text = to_json(state);
  replace_folder(folder, [&](const std::string& temporary) {
    write_model(model, in(temporary, kModel));
    write_optimiser(optimiser, in(temporary, kOptimiser));
    OutputFile file(in(temporary, kState));
    file.write(text);
    file.finish();
  });
}

CheckpointState read_checkpoint_state(const std::string& folder) {
  const std::string path = in(folder, kState);
  return checkpoint_state_from_json(read_file(path, kMaxState), path);
}

CheckpointState load_checkpoint(const std::string& folder, Module& model, AdamW* optimiser,
                                const Configuration* expected) {
  CheckpointState state = read_checkpoint_state(folder);
  if (expected != nullptr) check_configuration(folder, state.configuration, *expected);
  require<ValueError>(optimiser == nullptr || state.real == (kDouble ? "double" : "float"),
                      "checkpoint", "training goes on with the checkpoint's real type alone",
                      folder, state.real);
  std::vector<Tensor> values = read_model(in(folder, kModel), model, state.real);
  // The last that can fail, and it changes nothing when it does.
  if (optimiser != nullptr)
    optimiser->restore(read_optimiser(in(folder, kOptimiser), *optimiser, state.real));
  auto value = values.begin();
  for (const auto& [name, parameter] : model.parameters()) {
    parameter->value = std::move(*value++);
    parameter->gradient = Tensor();
  }
  return state;
}

}  // namespace fprnn
