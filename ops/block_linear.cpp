#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/block_linear.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/op.h>

namespace fprnn {

FPRNN_KERNEL(int64_t block_linear_space(const BlockLinearForward&))
FPRNN_KERNEL(void block_linear(const BlockLinearForward&, real* space, int64_t begin, int64_t end))
FPRNN_KERNEL(void block_linear_backward(const BlockLinearForward&, const real* dy, real* dx,
                                        real* share, real* space, int64_t begin, int64_t end))
FPRNN_KERNEL(void sum_rows(const real* x, real* y, int64_t rows, int64_t inner))

namespace {

// Up to here a block is too small for a matrix product of its own; a GPU's kernel has its own limit.
constexpr int64_t kSmallBlock = 16;

bool by_kernel(const Context& context, const BlockLinearForward& args) {
  if (context.device() == DeviceKind::cuda) return has_fused(context, args);
  return args.outputs <= kSmallBlock && args.inputs <= kSmallBlock;
}

BlockLinearForward contract_of(const Tensor& x, const Tensor& weight, real* y) {
  return {.x = x.data(),
          .weight = weight.data(),
          .y = y,
          .tokens = x.shape().elements_before(-1),
          .N = weight.size(0),
          .outputs = weight.size(1),
          .inputs = weight.size(2)};
}

// Block j of y = x W^T, rows as far apart as all channels are wide.
void launch_product(const Context& context, const BlockLinearForward& args, int64_t j) {
  launch(context, Gemm{.a = args.x + j * args.inputs,
                       .b = args.weight + j * args.outputs * args.inputs,
                       .c = args.y + j * args.outputs,
                       .M = args.tokens,
                       .N = args.outputs,
                       .K = args.inputs,
                       .lda = args.N * args.inputs,
                       .ldb = args.inputs,
                       .ldc = args.N * args.outputs,
                       .transpose_b = true});
}

void launch_gradients(const Context& context, const BlockLinearBackward& args, int64_t j) {
  const int64_t block = j * args.outputs * args.inputs;
  if (args.dx != nullptr)
    launch(context, Gemm{.a = args.dy + j * args.outputs,
                         .b = args.weight + block,
                         .c = args.dx + j * args.inputs,
                         .M = args.tokens,
                         .N = args.inputs,
                         .K = args.outputs,
                         .lda = args.N * args.outputs,
                         .ldb = args.inputs,
                         .ldc = args.N * args.inputs});
  if (args.dweight != nullptr)
    launch(context, Gemm{.a = args.dy + j * args.outputs,
                         .b = args.x + j * args.inputs,
                         .c = args.dweight + block,
                         .M = args.outputs,
                         .N = args.inputs,
                         .K = args.tokens,
                         .lda = args.N * args.outputs,
                         .ldb = args.N * args.inputs,
                         .ldc = args.inputs,
                         .transpose_a = true});
}

void give_gradients(const Tensor& x, const Tensor& weight, Backward& back) {
  const Context& context = x.context();
  const Tensor dx = wanted_like(back, 0, x), dweight = wanted_like(back, 1, weight);
  BlockLinearBackward args{contract_of(x, weight, nullptr)};
  args.dy = back.output().data();
  args.dx = data_or_null(dx);
  args.dweight = data_or_null(dweight);
  if (by_kernel(context, args))
    launch(context, args);
  else
    for (int64_t j = 0; j < args.N; ++j) launch_gradients(context, args, j);
  give_all(back, {dx, dweight});
}

}  // namespace

Var block_linear(const Var& x, const Var& weight) {
  require(weight.shape().rank() == 3 && x.shape().rank() >= 1, "block_linear",
          "weight must be (N, o, i): weight and x", weight.shape(), x.shape());
  require(x.size(-1) == weight.size(0) * weight.size(2), "block_linear",
          "x must be (..., N i) for a weight (N, o, i): x and weight", x.shape(), weight.shape());
  require_together("block_linear", x, weight);
  const Context& context = x.context();
  const Tensor y(context, x.shape().with(-1, weight.size(0) * weight.size(1)));
  const BlockLinearForward args = contract_of(x.value(), weight.value(), y.data());
  if (by_kernel(context, args))
    launch(context, args);
  else
    for (int64_t j = 0; j < args.N; ++j) launch_product(context, args, j);
  return record("block_linear", {x, weight}, y,
                [x = x.value(), weight = weight.value()](Backward& back) {
                  give_gradients(x, weight, back);
                });
}

namespace {

constexpr int64_t kTokens = 512;  // of a piece

int64_t grain_of(const BlockLinearForward& args) {
  return std::max<int64_t>(1, std::min(args.tokens, kTokens));
}

}  // namespace

void run(Cpu cpu, const BlockLinearForward& args) {
  const int64_t grain = grain_of(args), reals = FPRNN_SELECT(cpu, block_linear_space)(args);
  const auto kernel = FPRNN_SELECT(cpu, block_linear);
  const Tensor space(cpu.context, Shape{pieces(args.tokens, grain), reals});
  parallel_for(cpu, args.tokens, grain, [&](int64_t begin, int64_t end) {
    kernel(args, space.data() + begin / grain * reals, begin, end);
  });
}

void run(Cpu cpu, const BlockLinearBackward& args) {
  const int64_t grain = grain_of(args), reals = FPRNN_SELECT(cpu, block_linear_space)(args);
  const int64_t count = pieces(args.tokens, grain), weights = args.N * args.outputs * args.inputs;
  const auto kernel = FPRNN_SELECT(cpu, block_linear_backward);
  const Tensor space(cpu.context, Shape{count, reals}), shares(cpu.context, Shape{count, weights});
  parallel_for(cpu, args.tokens, grain, [&](int64_t begin, int64_t end) {
    const int64_t piece = begin / grain;
    kernel(args, args.dy, args.dx,
           args.dweight != nullptr ? shares.data() + piece * weights : nullptr,
           space.data() + piece * reals, begin, end);
  });
  if (args.dweight != nullptr)
    FPRNN_SELECT(cpu, sum_rows)(shares.data(), args.dweight, count, weights);
}

}  // namespace fprnn
