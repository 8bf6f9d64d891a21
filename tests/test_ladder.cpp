// Every rung of cuda/ladder does what the kernel in use does. Of builds with CUDA alone.
#include <doctest/doctest.h>
#include <fprnn/cuda/ladder/ladder.h>
#include <fprnn/cuda/ladder/solve_case.h>

#include "close.h"
#include "needs.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

// A scan and its gradient on one device; outputs begin as NaN.
struct ScanCase {
  Tensor a, b, h0, dh, h, da, db, dh0;
  ScanForward forward;
  ScanBackward backward;

  ScanCase(const Context& cpu, const Context& context, const Shape& shape, bool starts,
           bool reverse) {
    const int64_t B = shape[0], T = shape[1], D = shape[2];
    a = random(cpu, shape, 1).on(context), b = random(cpu, shape, 2).on(context);
    dh = random(cpu, shape, 3).on(context);
    if (starts) h0 = random(cpu, {B, D}, 4).on(context);
    for (Tensor* x : {&h, &da, &db}) *x = Tensor(context, shape);
    dh0 = Tensor(context, {B, D});
    const real* const start = starts ? h0.data() : nullptr;
    forward = {a.data(), b.data(), start, h.data(), B, T, D, reverse};
    backward = {forward, dh.data(), da.data(), db.data(), dh0.data()};
  }
  std::vector<Tensor> outputs() const { return {h, da, db, dh0}; }
};

void check_scan_rungs(const Shape& shape, bool starts, bool reverse) {
  const Context gpu = test_context(), cpu = host_context();
  const ScanCase here(cpu, cpu, shape, starts, reverse);
  launch(cpu, here.forward);
  launch(cpu, here.backward);
  for (const ladder::ScanRung& rung : ladder::scan_rungs()) {
    const ScanCase there(cpu, gpu, shape, starts, reverse);
    rung.forward({gpu}, there.forward);
    rung.backward({gpu}, there.backward);
    for (size_t i = 0; i < here.outputs().size(); ++i)
      check_close(fmt::format("{}, output {}", rung.name, i), there.outputs()[i].to_vector(),
                  here.outputs()[i].to_vector(), kDouble ? 1e-13 : 1e-5);
  }
}

void check_solve_rungs(const ladder::SolveSizes& sizes) {
  const Context gpu = test_context();
  std::vector<real> first_y, first_state;
  for (const ladder::SolveRung& rung : ladder::solve_rungs()) {
    const ladder::SolveCase at(gpu, sizes);
    rung.solve({gpu}, at.sweep);
    const auto y = at.y.to_vector(), state = at.state_out.to_vector();
    if (first_y.empty()) first_y = y, first_state = state;
    check_close(fmt::format("{}, y", rung.name), y, first_y, 2e-3);
    check_close(fmt::format("{}, state", rung.name), state, first_state, 2e-3);
    for (const int32_t count : at.iterations.to_vector()) CHECK(count < at.sweep.max_iterations);
  }
}

}  // namespace

TEST_CASE("ladder: every rung of the scan gives what the CPU gives" * needs_gpu()) {
  for (const Shape& shape : {Shape{1, 1, 1}, {2, 7, 5}, {3, 33, 36}, {2, 1000, 33}, {1, 64, 256}})
    for (const bool starts : {false, true})
      for (const bool reverse : {false, true}) check_scan_rungs(shape, starts, reverse);
}

// Columns by fours go in boxes of 32, of 64 where there are many (the last three shapes here), of so many
// steps; the last box of either may be partly empty. The first two are few columns for long.
TEST_CASE("ladder: the scan's boxes may reach beyond time and channels" * needs_gpu()) {
  std::vector<Shape> shapes{{1, 1000, 64},  {3, 1000, 100}, {1, 1000, 2116},
                            {133, 17, 100}, {67, 70, 68},   {2, 41, 5000}};
  for (const int64_t D : {4, 60, 64, 100, 1536})
    for (const int64_t T : {1, 2, 7, 8, 9, 15, 16, 17, 65})
      for (const int64_t B : {1, 3}) shapes.push_back({B, T, D});
  for (const Shape& shape : shapes)
    for (const bool starts : {false, true})
      for (const bool reverse : {false, true}) check_scan_rungs(shape, starts, reverse);
}

// An array that begins off a boundary of 16 bytes is none for boxes.
TEST_CASE("ladder: the scan of arrays in the midst of others" * needs_gpu()) {
  const Context gpu = test_context(), cpu = host_context();
  const ScanCase here(cpu, cpu, {2, 21, 64}, true, false);
  const ScanCase there(cpu, gpu, {2, 21, 64}, true, false);
  launch(cpu, here.forward);
  Tensor wide(gpu, {2 * 21 * 64 + 1});
  ScanForward forward = there.forward;
  forward.h = wide.data() + 1;
  launch(gpu, forward);
  auto values = wide.to_vector();
  values.erase(values.begin());
  check_close("h", values, here.h.to_vector(), kDouble ? 1e-13 : 1e-5);
}

// Where the mixer contracts there is one solution; products are rounded to 11 bits in the last.
TEST_CASE("ladder: every rung of the solver finds the same" * needs_gpu()) {
  for (const bool gate : {false, true})
    for (const int64_t D : {64, 256})
      check_solve_rungs({.B = 9, .T = 5, .D = D, .N = 16, .scale = 1, .gate = gate});
}

}  // namespace fprnn::tests
