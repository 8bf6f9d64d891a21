// Which weights of a run are its best.
#include <doctest/doctest.h>
#include <fprnn/tasks/run/best.h>

#include <cmath>

#include "folder.h"

namespace fprnn::tests {

TEST_CASE("best: the first step of the least validation loss that is a number") {
  const Folder folder;
  RunDirectory run = RunDirectory::create(folder.file("run"), "{}\n");
  CHECK(!logged_best(run.path()));
  std::optional<Best> best;
  const auto log = [&](int64_t step, std::optional<double> loss) {
    const StepMetrics metrics{.step = step, .validation_loss = loss};
    run.log(metrics);
    const bool better = improve(best, metrics);
    const std::optional<Best> logged = logged_best(run.path());
    REQUIRE(logged.has_value() == best.has_value());
    if (best)
      CHECK((logged->step == best->step && logged->validation_loss == best->validation_loss));
    return better;
  };
  CHECK(!log(1, {}));
  CHECK(!log(2, std::nan("")));
  CHECK(!log(3, INFINITY));
  CHECK(log(4, 2));
  CHECK(!log(5, 2));
  CHECK(!log(6, 3));
  CHECK(!log(7, {}));
  CHECK(log(8, 1.5));
  CHECK(!log(9, std::nan("")));
  CHECK(best->step == 8);
  CHECK(logged_best(run.path(), 8)->step == 8);
  CHECK(logged_best(run.path(), 7)->step == 4);
  CHECK(!logged_best(run.path(), 3));
  CHECK(kept(*best) == NamedValues{{"step", 8}, {"validation_loss", 1.5}});
  run.go_on(7);
  CHECK(logged_best(run.path())->step == 4);
}

}  // namespace fprnn::tests
