#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/op.h>

namespace fprnn {

FPRNN_KERNEL(void conv_forward(const ConvForward&, const real* taps, int64_t begin, int64_t end))
FPRNN_KERNEL(void conv_backward(const ConvBackward&, const real* taps, real* dtaps, real* dbias,
                                int64_t b))
FPRNN_KERNEL(void sum_rows(const real* x, real* y, int64_t rows, int64_t inner))

namespace {

// (rows, columns) -> (columns, rows).
void transpose(const real* from, real* to, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column)
      to[column * rows + row] = from[row * columns + column];
}

}  // namespace

Var causal_conv(const Var& x, const Var& weight, const Var& bias, const Var& state) {
  require(x.shape().rank() == 3, "causal_conv", "x must be (B, T, D)", x.shape());
  const int64_t B = x.size(0), T = x.size(1), D = x.size(2);
  require(weight.shape().rank() == 2 && weight.size(0) == D && weight.size(1) >= 1, "causal_conv",
          "weight must be (D, W) with W >= 1", weight.shape(), x.shape());
  const int64_t W = weight.size(1);
  require(fits(bias, Shape{D}), "causal_conv", "bias must be (D)", bias.shape(), x.shape());
  require(fits(state, Shape{B, W - 1, D}), "causal_conv", "state must be (B, W - 1, D)",
          state.shape(), x.shape(), weight.shape());
  require_together("causal_conv", x, weight, bias, state);
  Tensor y(x.context(), x.shape());
  const ConvForward forward{.x = x.data(),
                            .weight = weight.data(),
                            .bias = data_or_null(bias),
                            .state = data_or_null(state),
                            .y = y.data(),
                            .B = B,
                            .T = T,
                            .D = D,
                            .W = W};
  launch(x.context(), forward);
  return record("causal_conv", {x, weight, bias, state}, y,
                [forward, x, weight, bias, state](Backward& back) {
                  const Tensor dx = like(x), dweight = like(weight), dbias = like(bias),
                               dstate = like(state);
                  ConvBackward backward{forward};
                  backward.dy = back.output().data();
                  backward.dx = dx.data();
                  backward.dweight = dweight.data();
                  backward.dbias = data_or_null(dbias);
                  backward.dstate = data_or_null(dstate);
                  launch(x.context(), backward);
                  give_all(back, {dx, dweight, dbias, dstate});
                });
}

Var conv_state(const Var& x, int64_t width, const Var& state) {
  require(x.shape().rank() == 3, "conv_state", "x must be (B, T, D)", x.shape());
  require<ValueError>(width >= 1, "conv_state", "width must be at least 1", width);
  const Shape shape{x.size(0), width - 1, x.size(2)};
  const Var before = state.defined() ? state : Var(zeros(x.context(), shape));
  require(before.shape() == shape, "conv_state", "state must be (B, W - 1, D)", before.shape(),
          shape);
  const Var all = concat({before, x}, 1);
  return slice(all, 1, x.size(1), all.size(1));
}

void run(Cpu cpu, const ConvForward& args) {
  const auto kernel = FPRNN_SELECT(cpu, conv_forward);
  const Tensor taps(cpu.context, Shape{args.W, args.D});
  transpose(args.weight, taps.data(), args.D, args.W);
  parallel_for(cpu, args.B, grain_for(args.T * args.D),
               [&](int64_t begin, int64_t end) { kernel(args, taps.data(), begin, end); });
}

void run(Cpu cpu, const ConvBackward& args) {
  const auto kernel = FPRNN_SELECT(cpu, conv_backward);
  const int64_t share = (args.W + 1) * args.D;  // (W, D) of taps, then (D) of bias
  const Tensor taps(cpu.context, Shape{args.W, args.D});
  transpose(args.weight, taps.data(), args.D, args.W);
  const Tensor shares(cpu.context, Shape{args.B, share}), total(cpu.context, Shape{share});
  parallel_for(cpu, args.B, grain_for(args.T * args.D), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      real* own = shares.data() + b * share;
      kernel(args, taps.data(), own, own + args.W * args.D, b);
    }
  });
  FPRNN_SELECT(cpu, sum_rows)(shares.data(), total.data(), args.B, share);
  transpose(total.data(), args.dweight, args.W, args.D);
  if (args.dbias != nullptr) std::copy_n(total.data() + args.W * args.D, args.D, args.dbias);
}

}  // namespace fprnn
