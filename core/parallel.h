// The one place where threads are started. Work is cut into pieces whose borders depend on the
// problem alone, so whatever is summed or rounded within a piece does not depend on the number of
// threads.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/pieces.h>

#include <exception>
#include <vector>

namespace fprnn {

// body(piece) for each piece of [0, count). body must not throw.
template <class Body>
void parallel_pieces(Cpu cpu, int64_t count, const Body& body) {
  cpu.context.pool().run(count, body);
}

// body(begin, end) over [0, count) in pieces of `grain`.
template <class Body>
void parallel_for(Cpu cpu, int64_t count, int64_t grain, const Body& body) {
  parallel_pieces(cpu, pieces(count, grain), [&](int64_t piece) {
    body(piece * grain, std::min(count, (piece + 1) * grain));
  });
}

// The same for a few large pieces of work that may throw: the exception of the first such piece is
// passed on. Parallel loops inside a piece run on its thread.
template <class Body>
void parallel_tasks(Cpu cpu, int64_t count, const Body& body) {
  std::vector<std::exception_ptr> thrown(count);
  parallel_pieces(cpu, count, [&](int64_t piece) {
    try {
      body(piece);
    } catch (...) {
      thrown[piece] = std::current_exception();
    }
  });
  for (const std::exception_ptr& exception : thrown)
    if (exception) std::rethrow_exception(exception);
}

// visit(begin, end) for blocks of rows that do not meet: on the CPU each block on one thread for
// all that visit does with it, on a GPU all rows together. It may throw.
template <class Visit>
void for_row_blocks(const Context& context, int64_t rows, const Visit& visit) {
  if (context.device() == DeviceKind::cuda) {
    if (rows > 0) visit(0, rows);
    return;
  }
  constexpr int64_t kRows = 32;  // a layer's states of so many fit the second-level cache
  const int64_t block = std::min(kRows, std::max<int64_t>(1, pieces(rows, context.threads())));
  parallel_tasks(Cpu{context}, pieces(rows, block),
                 [&](int64_t i) { visit(i * block, std::min(rows, (i + 1) * block)); });
}

}  // namespace fprnn
