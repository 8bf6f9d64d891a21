// Checkpoints: what is saved is loaded to the bit, and what cannot be saved leaves what was there.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/safetensors.h>
#include <fprnn/ops/cross_entropy.h>

#include <cmath>
#include <limits>

#include "failures.h"
#include "refused.h"
#include "small_checkpoint.h"

namespace fprnn::tests {

namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

const Names kFiles{"model.safetensors", "optimiser.safetensors", "state.json"};

// A two-layer Mamba that learns to repeat tokens drawn for each step.
struct Training {
  Context context = test_context();
  std::unique_ptr<SequenceModel> model;
  AdamW optimiser;

  explicit Training(uint64_t seed)
      : model(mamba_model(context, Rng{seed}, 5, 2, {.d_model = 8, .d_state = 4})),
        optimiser(model->parameters(), {.weight_decay = 0.1}) {}
  void steps(int64_t first, int64_t last) {
    for (int64_t step = first; step <= last; ++step) {
      const Rng rng{7, static_cast<uint64_t>(step)};
      std::vector<int32_t> tokens(4 * 6);
      for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(rng.below(i, 5));
      const IntTensor batch(context, {4, 6}, tokens);
      Tape tape(context);
      tape.backward(
          masked_cross_entropy(model->forward(tape, batch), batch, full(context, {4, 6}, 1)));
      optimiser.step(1e-2);
    }
  }
  Live live() { return {*model, optimiser}; }
};

}  // namespace

TEST_CASE("checkpoint: five steps, a checkpoint and five more are ten steps to the bit") {
  const Folder folder;
  Training straight(1);
  straight.steps(1, 10);

  Training first(1);
  first.steps(1, 5);
  save_checkpoint(folder.file("c"), *first.model, first.optimiser, some_state(5));
  CHECK(listing(folder.file("c")) == kFiles);
  Training second(2);
  second.steps(1, 2);
  REQUIRE(!(second.live() == first.live()));
  CHECK(load_checkpoint(folder.file("c"), *second.model, &second.optimiser) == some_state(5));
  CHECK(second.live() == first.live());
  second.steps(6, 10);
  CHECK(second.live() == straight.live());

  // The files of the two runs are the same too.
  save_checkpoint(folder.file("x"), *straight.model, straight.optimiser, some_state(10));
  save_checkpoint(folder.file("y"), *second.model, second.optimiser, some_state(10));
  for (const std::string& name : kFiles)
    CHECK(file_bytes(folder.file("x") + "/" + name) == file_bytes(folder.file("y") + "/" + name));
}

TEST_CASE("checkpoint: weights alone are loaded to evaluate, and gradients are dropped") {
  const Folder folder;
  Small saved, loaded(50);
  saved.step(1);
  save_checkpoint(folder.file("c"), saved.model, saved.optimiser, some_state());
  fs::remove(folder.file("c/optimiser.safetensors"));
  const Values moments = loaded.live().moments;
  const Tensor held = loaded.model.parameter("weight").value;
  const std::vector<real> before = held.to_vector();
  loaded.model.parameter("weight").gradient = random(loaded.context, {2, 3}, 9);
  load_checkpoint(folder.file("c"), loaded.model, nullptr);
  CHECK(same_bits(loaded.live().values, saved.live().values));
  CHECK(same_bits(loaded.live().moments, moments));
  CHECK(!loaded.model.parameter("weight").gradient.defined());
  // Whoever held the old weights still does.
  CHECK(same_bits(held.to_vector(), before));
}

// Not finite is no reason to refuse: a run may be resumed to see why.
TEST_CASE("checkpoint: any bits of weights and moments survive") {
  const Folder folder;
  Small saved, loaded(50);
  assign(saved.model.parameter("weight").value,
         {std::numeric_limits<real>::quiet_NaN(), -std::numeric_limits<real>::quiet_NaN(),
          -std::numeric_limits<real>::infinity(), real(-0.0),
          std::numeric_limits<real>::denorm_min(), std::numeric_limits<real>::max()});
  saved.step(1);
  save_checkpoint(folder.file("c"), saved.model, saved.optimiser, some_state());
  load_checkpoint(folder.file("c"), loaded.model, &loaded.optimiser);
  CHECK(loaded.live() == saved.live());
}

TEST_CASE("checkpoint: the state is read back, all 64 bits of it") {
  const Folder folder;
  Small small;
  for (const double seconds : {0.0, 1.0, 0.1, 1e-300, 1e300, 123456.789, 5e-324}) {
    CheckpointState state = some_state(7);
    state.seconds = seconds;
    if (seconds > 1) state.data = "a text \"of\" 3 tokens";
    save_checkpoint(folder.file("c"), small.model, small.optimiser, state);
    CHECK(read_checkpoint_state(folder.file("c")) == state);
  }
  CheckpointState empty;
  save_checkpoint(folder.file("c"), small.model, small.optimiser, empty);
  empty.real = kDouble ? "double" : "float";
  CHECK(read_checkpoint_state(folder.file("c")) == empty);
}

TEST_CASE("checkpoint: a state that cannot be written is refused before anything is") {
  const Folder folder;
  Small small;
  const auto refused = [&](const auto& change) {
    CheckpointState state = some_state();
    change(state);
    CHECK_THROWS_AS(save_checkpoint(folder.file("c"), small.model, small.optimiser, state),
                    ValueError);
  };
  refused([](CheckpointState& s) { s.step = -1; });
  refused([](CheckpointState& s) { s.cursor = INT64_MIN; });
  refused([](CheckpointState& s) { s.skipped = -1; });
  refused([](CheckpointState& s) { s.cursor = INT64_MAX; });
  refused([](CheckpointState& s) { s.seconds = -1; });
  refused([](CheckpointState& s) { s.seconds = std::nan(""); });
  refused([](CheckpointState& s) { s.seconds = INFINITY; });
  refused([](CheckpointState& s) { s.configuration.emplace("\xff", ""); });
  refused([](CheckpointState& s) { s.configuration.emplace("k", "\xc3"); });
  CHECK(listing(folder.path()).empty());
}

TEST_CASE("checkpoint: another configuration is refused, naming exactly the keys that differ") {
  const Folder folder;
  Small saved, loaded(50);
  CheckpointState state = some_state();
  state.configuration = {{"lr", "0.1"}, {"layers", "2"}, {"model", "mamba"}, {"old", "absent"}};
  save_checkpoint(folder.file("c"), saved.model, saved.optimiser, state);
  const Live before = loaded.live();
  const Configuration other{{"lr", "0.2"}, {"layers", "2"}, {"model", "mamba"}, {"new", "x"}};
  try {
    load_checkpoint(folder.file("c"), loaded.model, &loaded.optimiser, &other);
    FAIL_CHECK("nothing was thrown");
  } catch (const ValueError& error) {
    const std::string text = error.what();
    INFO(text);
    CHECK(text.find("lr ('0.1' there and '0.2' here), new (absent there and 'x' here), "
                    "old ('absent' there and absent here)") != std::string::npos);
    CHECK(text.find("layers") == std::string::npos);
    CHECK(text.find("model") == std::string::npos);
    CHECK(text.find(folder.file("c")) != std::string::npos);
  }
  const Configuration none;
  CHECK_THROWS_AS(load_checkpoint(folder.file("c"), loaded.model, nullptr, &none), ValueError);
  CHECK(loaded.live() == before);
  load_checkpoint(folder.file("c"), loaded.model, &loaded.optimiser, &state.configuration);
  CHECK(loaded.live() == saved.live());
}

TEST_CASE("checkpoint: a save that fails leaves the earlier one and nothing else") {
  const Folder folder;
  Small saved, later(50);
  save_checkpoint(folder.file("c"), saved.model, saved.optimiser, some_state());
  const Names before = listing(folder.path());
  const auto save = [&](const std::string& path) {
    save_checkpoint(path, later.model, later.optimiser, some_state(4));
  };
  int failed = 0;
  for (rlim_t limit = 0; limit < 600; limit += 5) {
    const FileSizeLimit full(limit);
    const size_t largest = fs::file_size(folder.file("c/optimiser.safetensors"));
    if (limit >= largest) break;
    check_refused<FileError>("File too large", [&] { save(folder.file("c")); });
    check_refused<FileError>("File too large", [&] { save(folder.file("d")); });
    ++failed;
  }
  CHECK(failed > 50);
  check_refused<FileError>("Not a directory", [&] { save(folder.file("c/state.json")); });
  check_refused<FileError>("Not a directory", [&] { save(folder.file("c/state.json/c")); });
  check_refused<FileError>("No such file", [&] { save(folder.file("absent/c")); });
  CHECK(listing(folder.path()) == before);
  CHECK(load_checkpoint(folder.file("c"), later.model, &later.optimiser) == some_state());
  CHECK(later.live() == saved.live());
}

TEST_CASE("checkpoint: a folder of other things is not replaced") {
  const Folder folder;
  Small small;
  fs::create_directory(folder.file("home"));
  write_file(folder.file("home/thesis.tex"), "years of work");
  check_refused<FileError>("thesis.tex", [&] {
    save_checkpoint(folder.file("home"), small.model, small.optimiser, some_state());
  });
  CHECK(file_bytes(folder.file("home/thesis.tex")) == "years of work");
  CHECK(listing(folder.path()) == Names{"home", "home/thesis.tex"});
}

TEST_CASE("checkpoint: an optimiser takes back its own state alone") {
  Small small, other(50);
  small.step(1);
  const Live before = small.live();
  const auto refused = [&](const auto& change) {
    AdamWState state = other.optimiser.state();
    change(state);
    CHECK_THROWS_AS(small.optimiser.restore(state), Error);
    CHECK(small.live() == before);
  };
  refused([](AdamWState& s) { s.steps = -1; });
  refused([](AdamWState& s) { s.steps = INT64_MAX; });
  refused([](AdamWState& s) { s.moments.pop_back(); });
  refused([](AdamWState& s) { s.moments.push_back(s.moments[0]); });
  refused([](AdamWState& s) { std::swap(s.moments[0], s.moments[1]); });
  refused([](AdamWState& s) { s.moments[1].path = "other"; });
  refused([](AdamWState& s) { s.moments[1].variance = s.moments[0].variance; });
  refused([](AdamWState& s) { s.moments[0].mean = s.moments[0].mean.reshaped({3, 2}); });
  refused([](AdamWState& s) { s.moments[0].mean = Tensor(); });
  // A state taken back is copied: the two optimisers share nothing.
  other.optimiser.restore(small.optimiser.state());
  const Live copied = other.live();
  small.step(2);
  CHECK(other.live() == copied);
}

}  // namespace fprnn::tests
