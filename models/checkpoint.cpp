#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/core/file.h>
#include <fprnn/models/checkpoint.h>
#include <fprnn/models/safetensors.h>
#include <fprnn/models/safetensors_writer.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

namespace fprnn {

namespace {

namespace fs = std::filesystem;

constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimiser = "optimiser.safetensors";
constexpr const char* kCarried = "carried.safetensors";
constexpr const char* kState = "state.json";
constexpr const char* kSteps = "steps";  // in the optimiser's metadata
constexpr int64_t kMaxState = 16 << 20;  // bytes

std::string in(const std::string& folder, std::string_view name) {
  return fmt::format("{}/{}", folder, name);
}

// The tensors of a file, in order.
struct NamedTensor {
  std::string name;
  Tensor value;
};
using NamedTensors = std::vector<NamedTensor>;

NamedTensors tensors_of(Module& model) {
  NamedTensors all;
  for (const auto& [name, parameter] : model.parameters()) all.push_back({name, parameter->value});
  return all;
}

NamedTensors tensors_of(const AdamWState& state) {
  NamedTensors all;
  for (const auto& [name, mean, variance] : state.moments) {
    all.push_back({"mean." + name, mean});
    all.push_back({"variance." + name, variance});
  }
  return all;
}

NamedTensors tensors_of(const SequenceModel::State& state) {
  NamedTensors all;
  for (size_t layer = 0; layer < state.size(); ++layer)
    for (size_t place = 0; place < state[layer].size(); ++place)
      if (state[layer][place].defined())
        all.push_back({fmt::format("{}.{}", layer, place), state[layer][place]});
  return all;
}

void write(SafetensorsWriter writer, const NamedTensors& tensors, const std::string& path) {
  for (const auto& [name, value] : tensors) writer.add(name, value);
  OutputFile file(path);
  writer.write(file);
  file.finish();
}

// What is replaced is removed, so it must not be anything else.
void check_replaceable(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    require<FileError>(
        name == kModel || name == kOptimiser || name == kCarried || name == kState, "checkpoint",
        "a folder that is replaced must be a checkpoint: folder and file in it", folder, name);
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

// Tensors of these names, shapes and Contexts; the file must hold no other.
std::vector<Tensor> read_tensors(const SafetensorsFile& file, const std::string& path,
                                 const NamedTensors& wanted, const std::string& real) {
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
  const std::vector<Tensor> tensors = read_tensors(file, path, tensors_of(state), real);
  for (size_t i = 0; i < state.moments.size(); ++i) {
    state.moments[i].mean = tensors[2 * i];
    state.moments[i].variance = tensors[2 * i + 1];
  }
  return state;
}

// Of the shapes of `like`, or empty.
SequenceModel::State read_carried(const std::string& path, SequenceModel::State like,
                                  const std::string& real) {
  const SafetensorsFile file = SafetensorsFile::read(path);
  if (file.entries().empty()) return {};
  const std::vector<Tensor> tensors = read_tensors(file, path, tensors_of(like), real);
  auto tensor = tensors.begin();
  for (LayerState& layer : like)
    for (Tensor& each : layer)
      if (each.defined()) each = *tensor++;
  return like;
}

}  // namespace

void save_checkpoint(const std::string& folder, Module& model, const AdamW& optimiser,
                     const CheckpointState& state, const SequenceModel::State* carried) {
  check_replaceable(folder);
  const std::string text = to_json(state);
  replace_folder(folder, [&](const std::string& temporary) {
    write({}, tensors_of(model), in(temporary, kModel));
    const AdamWState optimised = optimiser.state();
    SafetensorsWriter writer;
    writer.add_metadata(kSteps, std::to_string(optimised.steps));
    write(std::move(writer), tensors_of(optimised), in(temporary, kOptimiser));
    if (carried != nullptr) write({}, tensors_of(*carried), in(temporary, kCarried));
    OutputFile file(in(temporary, kState));
    file.write(text);
    file.finish();
  });
}

CheckpointState read_checkpoint_state(const std::string& folder) {
  const std::string path = in(folder, kState);
  return checkpoint_state_from_json(read_file(path, kMaxState), path);
}

Shape saved_shape(const std::string& folder, std::string_view parameter) {
  const std::string path = in(folder, kModel);
  const SafetensorsFile file = SafetensorsFile::read(path);
  const auto found = std::ranges::find(file.entries(), parameter, &SafetensorsEntry::name);
  require<FormatError>(found != file.entries().end(), "checkpoint",
                       "every tensor must be there: file and tensor", path, parameter);
  return found->shape;
}

CheckpointState load_checkpoint(const std::string& folder, Module& model, AdamW* optimiser,
                                const Configuration* expected, SequenceModel::State* carried) {
  CheckpointState state = read_checkpoint_state(folder);
  if (expected != nullptr) check_configuration(folder, state.configuration, *expected);
  require<ValueError>(optimiser == nullptr || state.real == (kDouble ? "double" : "float"),
                      "checkpoint", "training goes on with the checkpoint's real type alone",
                      folder, state.real);
  const std::string path = in(folder, kModel);
  std::vector<Tensor> values =
      read_tensors(SafetensorsFile::read(path), path, tensors_of(model), state.real);
  SequenceModel::State state_of_model;
  if (carried != nullptr) state_of_model = read_carried(in(folder, kCarried), *carried, state.real);
  // The last that can fail, and it changes nothing when it does.
  if (optimiser != nullptr)
    optimiser->restore(read_optimiser(in(folder, kOptimiser), *optimiser, state.real));
  auto value = values.begin();
  for (const auto& [name, parameter] : model.parameters()) {
    parameter->value = std::move(*value++);
    parameter->gradient = Tensor();
  }
  if (carried != nullptr) *carried = std::move(state_of_model);
  return state;
}

namespace {

constexpr std::string_view kCheckpoints = "checkpoints";
constexpr std::string_view kLatest = "LATEST";
constexpr std::string_view kPrefix = "step_";
constexpr size_t kDigits = 8;

bool is_checkpoint_name(std::string_view name) {
  return name.size() == kPrefix.size() + kDigits && name.starts_with(kPrefix) &&
         name.find_first_not_of("0123456789", kPrefix.size()) == std::string_view::npos;
}

// The name that LATEST holds. Exactly one form is accepted, so it cannot lead out of the run.
std::string read_latest(const std::string& run) {
  const std::string path = in(run, kLatest);
  const std::string before = fmt::format("{}/", kCheckpoints);
  const std::string text = read_file(path, 1024);
  const bool sound = text.starts_with(before) && text.ends_with('\n');
  const std::string name =
      sound ? text.substr(before.size(), text.size() - before.size() - 1) : std::string();
  require<FormatError>(is_checkpoint_name(name), "checkpoint",
                       "LATEST must be checkpoints/step_ and eight digits: file and text", path,
                       text);
  return name;
}

std::vector<std::string> checkpoint_names(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unknown;
    const std::string name = entry->path().filename();
    if (is_checkpoint_name(name) && fs::is_directory(entry->symlink_status(unknown)))
      names.push_back(name);
  }
  require<FileError>(!error, "checkpoint", "the folder must be readable", folder, error.message());
  return names;
}

// The checkpoint of the highest step; none where there is none.
std::string highest_name(const std::string& run) {
  const std::string folder = in(run, kCheckpoints);
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) return {};
  const std::vector<std::string> names = checkpoint_names(folder);
  return names.empty() ? std::string() : *std::ranges::max_element(names);
}

// A link that leads nowhere is as good as no file.
bool has_latest(const std::string& run) {
  std::error_code ignored;
  return fs::exists(in(run, kLatest), ignored);
}

void check_keep(int64_t keep) {
  require<ValueError>(keep >= 1, "checkpoint", "at least one checkpoint must be kept", keep);
}

}  // namespace

std::string save_run_checkpoint(const std::string& run, Module& model, const AdamW& optimiser,
                                const CheckpointState& state, int64_t keep,
                                const SequenceModel::State* carried) {
  require<ValueError>(state.step >= 0 && state.step < 100'000'000, "checkpoint",
                      "a step must have at most eight digits", state.step);
  check_keep(keep);
  const std::string checkpoints = in(run, kCheckpoints);
  std::error_code error;
  fs::create_directories(checkpoints, error);
  require<FileError>(!error, "checkpoint", "the folder must be writable", checkpoints,
                     error.message());
  const std::string name = fmt::format("{}{:0{}}", kPrefix, state.step, kDigits);
  save_checkpoint(in(checkpoints, name), model, optimiser, state, carried);
  replace_file(in(run, kLatest), fmt::format("{}/{}\n", kCheckpoints, name));
  prune_checkpoints(run, keep);
  return in(checkpoints, name);
}

std::string latest_checkpoint(const std::string& run) {
  const std::string name = has_latest(run) ? read_latest(run) : highest_name(run);
  require<FileError>(!name.empty(), "checkpoint",
                     "a run must have LATEST or a folder in checkpoints", run);
  const std::string folder = in(in(run, kCheckpoints), name);
  std::error_code error;
  require<FileError>(fs::is_directory(folder, error), "checkpoint",
                     "the checkpoint that LATEST names must be a folder", folder);
  return folder;
}

bool has_checkpoint(const std::string& run) {
  return has_latest(run) || !highest_name(run).empty();
}

void prune_checkpoints(const std::string& run, int64_t keep) {
  check_keep(keep);
  const std::string checkpoints = in(run, kCheckpoints), latest = read_latest(run);
  std::vector<std::string> names = checkpoint_names(checkpoints);
  std::erase(names, latest);
  std::ranges::sort(names, std::ranges::greater());
  for (size_t i = keep - 1; i < names.size(); ++i) remove_folder(in(checkpoints, names[i]));
  remove_temporaries(checkpoints);
  remove_temporaries(run, kLatest);
}

}  // namespace fprnn
