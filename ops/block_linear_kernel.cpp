// Small blocks, for kLanes tokens at a time: x stands transposed, (channels, kLanes), so that a vector
// has one channel of all these tokens and a block's numbers are broadcast.
#include <fprnn/ops/block_linear.h>
#include <fprnn/ops/gate_panels.h>

namespace fprnn::FPRNN_ISA {

namespace {

// (width, kLanes) -> rows of y (rows, width).
FPRNN_INLINE void store_rows(const real* from, int64_t rows, int64_t width, real* y) {
  for_channels(width, [&](int64_t c, auto lanes, int64_t channels) {
    Vec column[kLanes]{};
    for (int64_t j = 0; j < channels; ++j) column[j] = load(from + (c + j) * kLanes);
    transpose(column);
    for (int64_t i = 0; i < rows; ++i) lanes.store(y + i * width + c, column[i]);
  });
}

// y_o = sum_i weight[o of_output + i of_input] x_i in each of N blocks.
FPRNN_INLINE void multiply_blocks(const BlockLinearForward& args, bool transposed, const real* x,
                                  real* y) {
  const int64_t outputs = transposed ? args.inputs : args.outputs;
  const int64_t inputs = transposed ? args.outputs : args.inputs;
  const int64_t of_output = transposed ? 1 : args.inputs, of_input = transposed ? args.inputs : 1;
  const real* block = args.weight;
  for (int64_t j = 0; j < args.N; ++j) {
    for (int64_t o = 0; o < outputs; ++o) {
      Vec sum{};
      for (int64_t i = 0; i < inputs; ++i)
        sum += block[o * of_output + i * of_input] * load(x + i * kLanes);
      store(y + o * kLanes, sum);
    }
    block += args.outputs * args.inputs;
    x += inputs * kLanes;
    y += outputs * kLanes;
  }
}

}  // namespace

// Reals of working space for a piece of tokens: whole squares of x and y, and sums.
int64_t block_linear_space(const BlockLinearForward& args) {
  return (rounded(args.N * args.inputs, kLanes) + rounded(args.N * args.outputs, kLanes) +
          args.N * args.inputs * args.outputs) *
         kLanes;
}

void block_linear(const BlockLinearForward& args, real* space, int64_t begin, int64_t end) {
  const int64_t from = args.N * args.inputs, to = args.N * args.outputs;
  real* const y = space + rounded(from, kLanes) * kLanes;
  for (int64_t t = begin; t < end; t += kLanes) {
    const int64_t rows = minimum(kLanes, end - t);
    transpose_rows(args.x + t * from, from, rows, from, space);
    multiply_blocks(args, false, space, y);
    store_rows(y, rows, to, args.y + t * to);
  }
}

// dx where it is wanted, and the piece's share of dweight likewise.
void block_linear_backward(const BlockLinearForward& args, const real* dy, real* dx, real* share,
                           real* space, int64_t begin, int64_t end) {
  const int64_t from = args.N * args.inputs, to = args.N * args.outputs;
  const int64_t count = args.N * args.outputs * args.inputs;
  real *x = space, *g = x + rounded(from, kLanes) * kLanes;
  real* const sums = g + rounded(to, kLanes) * kLanes;
  for (int64_t i = 0; i < count * kLanes; i += kLanes) store(sums + i, Vec{});
  for (int64_t t = begin; t < end; t += kLanes) {
    const int64_t rows = minimum(kLanes, end - t);
    transpose_rows(dy + t * to, to, rows, to, g);
    if (share != nullptr) {
      transpose_rows(args.x + t * from, from, rows, from, x);
      for (int64_t j = 0, at = 0; j < args.N; ++j)
        for (int64_t o = 0; o < args.outputs; ++o) {
          const Vec of = load(g + (j * args.outputs + o) * kLanes);
          for (int64_t i = 0; i < args.inputs; ++i, at += kLanes)
            store(sums + at, load(sums + at) + of * load(x + (j * args.inputs + i) * kLanes));
        }
    }
    if (dx == nullptr) continue;
    multiply_blocks(args, true, g, x);
    store_rows(x, rows, from, dx + t * from);
  }
  if (share != nullptr)
    for (int64_t i = 0; i < count; ++i) share[i] = sum(load(sums + i * kLanes));
}

}  // namespace fprnn::FPRNN_ISA
