// The checkpoints of a run: the newest is found, old ones go, and a kill at any time loses none.
#include <doctest/doctest.h>
#include <fprnn/models/checkpoint.h>
#include <sys/wait.h>

#include "failures.h"
#include "refused.h"
#include "small_checkpoint.h"

namespace fprnn::tests {

namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

struct Run {
  Folder folder = {};
  Small small;

  std::string path() const { return folder.path(); }
  std::string save(int64_t step, int64_t keep = 2) {
    return save_run_checkpoint(path(), small.model, small.optimiser, some_state(step), keep);
  }
  Names checkpoints() const {
    Names names;
    for (const auto& entry : fs::directory_iterator(folder.file("checkpoints")))
      names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }
  int64_t latest_step() const { return read_checkpoint_state(latest_checkpoint(path())).step; }
};

}  // namespace

TEST_CASE("checkpoint: a run's newest is found and all but a few are pruned") {
  Run run;
  check_refused<FileError>("LATEST", [&] { latest_checkpoint(run.path()); });
  for (int64_t step = 0; step < 5; ++step) {
    run.small.step(step);
    const std::string saved = run.save(10 * step);
    CHECK(saved == latest_checkpoint(run.path()));
    CHECK(run.latest_step() == 10 * step);
  }
  CHECK(run.checkpoints() == Names{"step_00000030", "step_00000040"});
  CHECK(file_bytes(run.folder.file("LATEST")) == "checkpoints/step_00000040\n");
  run.save(99'999'999, 1);
  CHECK(run.checkpoints() == Names{"step_99999999"});
  // One that goes on from an earlier step does not lose what it saves to what is left of later
  // ones.
  run.save(50, 1);
  CHECK(run.checkpoints() == Names{"step_00000050"});
  CHECK(run.latest_step() == 50);
  CHECK_THROWS_AS(run.save(100'000'000), ValueError);
  CHECK_THROWS_AS(run.save(-1), ValueError);
  CHECK_THROWS_AS(run.save(60, 0), ValueError);
  CHECK_THROWS_AS(prune_checkpoints(run.path(), 0), ValueError);
  CHECK(run.checkpoints() == Names{"step_00000050"});
}

TEST_CASE("checkpoint: a step that is saved again replaces the one that was there") {
  Run run;
  run.save(1);
  const Live first = run.small.live();
  run.small.step(1);
  run.save(1);
  CHECK(!(run.small.live() == first));
  Small loaded(50);
  load_checkpoint(latest_checkpoint(run.path()), loaded.model, &loaded.optimiser);
  CHECK(loaded.live() == run.small.live());
  CHECK(run.checkpoints() == Names{"step_00000001"});
  // Killed between the checkpoint and LATEST, a run reaches the step again.
  run.save(2);
  write_file(run.folder.file("LATEST"), "checkpoints/step_00000001\n");
  run.save(2);
  CHECK(run.latest_step() == 2);
}

TEST_CASE("checkpoint: pruning takes checkpoints and temporaries alone") {
  Run run;
  run.save(1);
  const std::string checkpoints = run.folder.file("checkpoints/");
  for (const char* name : {"step_00000002", "step_00000003.tmp-1-0", "step_1", "step_000000010",
                           "step_0000000x", "notes", "Step_00000001"})
    fs::create_directories(checkpoints + name + "/deep");
  write_file(checkpoints + "step_00000009", "a file");
  fs::create_directory_symlink(run.path(), checkpoints + "step_00000008");
  write_file(run.folder.file("LATEST.tmp-1-0"), "checkpoints/");
  write_file(run.folder.file("config.json.tmp-1-0"), "of another writer");
  prune_checkpoints(run.path(), 1);
  CHECK(run.checkpoints() == Names{"Step_00000001", "notes", "step_00000001", "step_000000010",
                                   "step_00000008", "step_00000009", "step_0000000x", "step_1"});
  CHECK(!fs::exists(run.folder.file("LATEST.tmp-1-0")));
  CHECK(fs::exists(run.folder.file("config.json.tmp-1-0")));
}

TEST_CASE("checkpoint: LATEST has one form, and what it names exists") {
  Run run;
  run.save(1);
  const std::string nul(1, '\0');
  const std::string name = "checkpoints/step_00000001";
  for (const std::string& text : Names{"",
                                       "\n",
                                       name,
                                       name + "\n\n",
                                       name + "\r\n",
                                       name + "1\n",
                                       name + "/\n",
                                       name + nul + "\n",
                                       name + "\n" + nul,
                                       name + ".tmp-1-0\n",
                                       name + "\n" + name + "\n",
                                       " " + name + "\n",
                                       "/" + name + "\n",
                                       "./" + name + "\n",
                                       run.folder.file(name + "\n"),
                                       "checkpoints/step_0000001\n",
                                       "checkpoints/step_0000000a\n",
                                       "step_00000001\n",
                                       "checkpoints/step_-0000001\n",
                                       "checkpoints/Step_00000001\n",
                                       "checkpoints/\n",
                                       "checkpoints//step_00000001\n",
                                       "checkpoints/../checkpoints/step_00000001\n",
                                       "checkpoints/..\n",
                                       "../step_00000001\n",
                                       "/\n",
                                       "\n" + name + "\n"}) {
    write_file(run.folder.file("LATEST"), text);
    check_refused<FormatError>("LATEST", [&] { latest_checkpoint(run.path()); });
    check_refused<FormatError>("LATEST", [&] { prune_checkpoints(run.path(), 1); });
  }
  write_file(run.folder.file("LATEST"), std::string(1025, 'x'));
  check_refused<FileError>("larger", [&] { latest_checkpoint(run.path()); });
  write_file(run.folder.file("LATEST"), "checkpoints/step_00000002\n");
  check_refused<FileError>("step_00000002", [&] { latest_checkpoint(run.path()); });
  write_file(run.folder.file("checkpoints/step_00000002"), "a file");
  check_refused<FileError>("step_00000002", [&] { latest_checkpoint(run.path()); });
  // The next save mends it.
  run.save(3);
  CHECK(run.latest_step() == 3);
}

TEST_CASE("checkpoint: a run that has lost LATEST has its checkpoints yet") {
  Run run;
  CHECK(!has_checkpoint(run.path()));
  fs::create_directories(run.folder.file("checkpoints/step_00000009.tmp-1-0"));
  CHECK(!has_checkpoint(run.path()));
  check_refused<FileError>("LATEST", [&] { latest_checkpoint(run.path()); });
  run.save(2);
  run.save(10);
  CHECK(has_checkpoint(run.path()));
  fs::remove(run.folder.file("LATEST"));
  CHECK(has_checkpoint(run.path()));
  CHECK(run.latest_step() == 10);
  fs::create_symlink("nowhere", run.folder.file("LATEST"));
  CHECK(run.latest_step() == 10);
  run.save(11);
  CHECK(run.latest_step() == 11);
  fs::remove_all(run.folder.file("checkpoints"));
  CHECK(has_checkpoint(run.path()));  // as LATEST says
  check_refused<FileError>("step_00000011", [&] { latest_checkpoint(run.path()); });
}

TEST_CASE("checkpoint: a run that cannot be written keeps what it has") {
  Run run;
  run.save(1);
  const Names before = listing(run.path());
  for (const rlim_t limit : {0, 10, 100, 250}) {
    const FileSizeLimit full(limit);
    check_refused<FileError>("File too large", [&] { run.save(2); });
    check_refused<FileError>("File too large", [&] { run.save(1); });
  }
  CHECK(listing(run.path()) == before);
  CHECK(run.latest_step() == 1);
  check_refused<FileError>("directory", [&] {
    save_run_checkpoint(run.folder.file("LATEST"), run.small.model, run.small.optimiser,
                        some_state(), 2);
  });
  check_refused<FileError>("", [&] {
    save_run_checkpoint("/proc/fprnn", run.small.model, run.small.optimiser, some_state(), 2);
  });
}

// A child saves without pause, every step twice, and is killed at some moment of it. On the CPU: what a
// child inherits of a GPU it cannot use.
TEST_CASE("checkpoint: whenever a run is killed, its newest checkpoint loads") {
  Run run{.small = Small(1, host_context(1))};
  run.save(0);
  int64_t reached = 0;
  for (int round = 0; round < 24; ++round) {
    INFO("round ", round, ", step ", reached);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        for (int64_t step = reached;; ++step) {
          run.save(step);
          run.save(step);
        }
      } catch (...) {
        _exit(1);
      }
    }
    usleep(static_cast<useconds_t>(Rng{5}.below(round, 20'000)));
    kill(child, SIGKILL);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    Small loaded(50, host_context(1));
    const CheckpointState state =
        load_checkpoint(latest_checkpoint(run.path()), loaded.model, &loaded.optimiser);
    CHECK(state.step >= reached);
    CHECK(loaded.live() == run.small.live());
    reached = state.step;
    // Whatever has a checkpoint's name is a whole one.
    for (const std::string& name : run.checkpoints())
      if (name.size() == 13)
        load_checkpoint(run.folder.file("checkpoints/" + name), loaded.model, &loaded.optimiser);
  }
  run.save(reached + 1);
  CHECK(run.checkpoints().size() == 2);
  CHECK(listing(run.path()).size() == 1 + 1 + 2 + 6);
}

}  // namespace fprnn::tests
