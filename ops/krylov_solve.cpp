#include <fprnn/autograd/picard.h>
#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/krylov_solve.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/reduce.h>

#include <algorithm>

namespace fprnn {

FPRNN_KERNEL(void krylov_advance(const KrylovAdvance&, real* space, int64_t begin, int64_t end))

bool has_krylov(const Context& context) { return context.device() == DeviceKind::cpu; }

namespace {

Tensor iterated(const RowEquation& at, const Products& products, real tolerance,
                int64_t max_iterations, const IntTensor& counts) {
  const bool normalised = at.weight.defined();
  const Shape &shape = at.offset.shape(), rows{shape.elements_before(-1), 1, shape[-1]};
  const Map f = [&](const Tensor& y) {
    const Var v = add(at.offset, mul(at.gain, products(y.reshaped(shape))));
    return any_norm(v, at.weight, at.bias, at.eps).value().reshaped(rows);
  };
  const Tensor start = normalised ? zeros(at.offset.context(), shape) : at.offset;
  const Solution solution = picard(f, start.reshaped(rows),
                                   {.tolerance = tolerance,
                                    .max_iterations = max_iterations,
                                    .backwards = true,
                                    .shrink_after = 16});
  raise_to(counts, solution.iterations);
  return solution.y.reshaped(shape);
}

}  // namespace

Tensor krylov_solve(const RowEquation& at, const Products& products, real tolerance,
                    int64_t max_iterations, const IntTensor& counts) {
  const std::string_view op = "krylov_solve";
  const Shape& shape = at.offset.shape();
  require(shape.rank() >= 1 && at.gain.shape() == shape, op, "offset and gain must be (..., D)",
          shape, at.gain.shape());
  const int64_t D = shape[-1], rows = shape.elements_before(-1);
  require(fits(at.weight, {D}) && fits(at.bias, {D}) && (at.weight.defined() || !at.bias.defined()),
          op, "weight and bias must be (D) or absent, a bias with a weight", D);
  require(counts.elements() == rows, op, "there must be a count for each row", counts.shape(),
          rows);
  require_together(op, at.offset, at.gain, at.weight, at.bias, counts);
  check_limits(tolerance, max_iterations);
  const Context& context = at.offset.context();
  if (!has_krylov(context)) return iterated(at, products, tolerance, max_iterations, counts);
  // N's bias, from which plain steps start, or without N a guess as good as 0.
  const Tensor y = at.bias.defined()     ? clone(broadcast_to(at.bias, shape).value())
                   : at.weight.defined() ? clone(zeros(context, shape))
                                         : clone(at.offset);
  const Tensor ask = clone(y);
  const Tensor space(context, {rows, krylov_space(D)});
  std::vector<KrylovRow> state(rows);
  const auto done = [&] { return std::ranges::all_of(state, &KrylovRow::done); };
  while (!done()) {
    const Tensor product = products(ask);
    require(product.shape() == shape, op, "products must keep the shape", product.shape(), shape);
    launch(context, KrylovAdvance{.product = product.data(),
                                  .offset = at.offset.data(),
                                  .gain = at.gain.data(),
                                  .weight = data_or_null(at.weight),
                                  .bias = data_or_null(at.bias),
                                  .y = y.data(),
                                  .ask = ask.data(),
                                  .space = space.data(),
                                  .state = state.data(),
                                  .iterations = counts.data(),
                                  .rows = rows,
                                  .D = D,
                                  .eps = at.eps,
                                  .tolerance = tolerance,
                                  .max_iterations = as_count(max_iterations)});
  }
  return y;
}

void run(Cpu cpu, const KrylovAdvance& args) {
  run_with_space(cpu, FPRNN_SELECT(cpu, krylov_advance), args, args.rows, 64 * args.D,
                 pieces(krylov_work(args.D), 16) * 16);
}

}  // namespace fprnn
