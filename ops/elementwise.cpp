#include <fprnn/core/isa.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

FPRNN_KERNEL(void unary_forward(const UnaryForward&, int64_t begin, int64_t end))
FPRNN_KERNEL(void unary_backward(const UnaryBackward&, int64_t begin, int64_t end))
FPRNN_KERNEL(void binary_forward(const BinaryForward&, int64_t begin, int64_t end))
FPRNN_KERNEL(bool slope_takes_result(Unary function))

Var unary(std::string_view op, Unary function, const Var& x, real scale, real shift) {
  Tensor y(x.context(), x.shape());
  const UnaryForward forward{.function = function,
                             .x = x.data(),
                             .y = y.data(),
                             .count = x.elements(),
                             .scale = scale,
                             .shift = shift};
  launch(x.context(), forward);
  const Tensor kept = baseline::slope_takes_result(function) ? y : x.value();
  return record(op, {x}, y, [forward, kept](Backward& back) {
    const Tensor dx = like(kept);
    UnaryBackward backward{forward};
    backward.kept = kept.data();
    backward.dy = back.output().data();
    backward.dx = dx.data();
    launch(kept.context(), backward);
    back.accumulate(0, dx);
  });
}

namespace {

// The shape's last axes without leading ones: what repeats when it is broadcast at no cost.
bool ends_with(const Shape& shape, const Shape& end) {
  int rank = end.rank();
  while (rank > 0 && end[end.rank() - rank] == 1) --rank;
  if (rank > shape.rank()) return false;
  for (int axis = 1; axis <= rank; ++axis)
    if (shape[-axis] != end[-axis]) return false;
  return true;
}

Shape broadcast_shape(std::string_view op, const Var& x, const Var& y) {
  require_together(op, x, y);
  const Shape &a = x.shape(), &b = y.shape();
  Shape out = a.rank() >= b.rank() ? a : b;
  const Shape& other = a.rank() >= b.rank() ? b : a;
  for (int axis = 1; axis <= other.rank(); ++axis) {
    require(out[-axis] == other[-axis] || out[-axis] == 1 || other[-axis] == 1, op,
            "sizes aligned at the last axis must be equal or 1", a, b);
    if (out[-axis] == 1) out = out.with(-axis, other[-axis]);
  }
  return out;
}

Tensor binary_values(std::string_view op, Binary function, const Var& left, const Var& right) {
  const Shape shape = broadcast_shape(op, left, right);
  Tensor a = left.value(), b = right.value(), y(a.context(), shape);
  if (shape.elements() == 0) return y;
  // The longer operand goes first where their order is free: the second may repeat without a copy.
  if (a.shape() != shape && (function == Binary::add || function == Binary::mul)) std::swap(a, b);
  if (a.shape() != shape) a = broadcast_to(a, shape).value();
  if (!ends_with(shape, b.shape())) b = broadcast_to(b, shape).value();
  launch(y.context(), BinaryForward{.function = function,
                                    .a = a.data(),
                                    .b = b.data(),
                                    .y = y.data(),
                                    .count = y.elements(),
                                    .period = b.elements()});
  return y;
}

Tensor negative(const Tensor& x) { return affine(x, -1, 0).value(); }

}  // namespace

Var add(const Var& a, const Var& b) {
  const Tensor y = binary_values("add", Binary::add, a, b);
  return record("add", {a, b}, y, [a = a.shape(), b = b.shape()](Backward& back) {
    if (back.wants(0)) back.accumulate(0, sum_to(back.output(), a).value());
    if (back.wants(1)) back.accumulate(1, sum_to(back.output(), b).value());
  });
}

Var sub(const Var& a, const Var& b) {
  const Tensor y = binary_values("sub", Binary::sub, a, b);
  return record("sub", {a, b}, y, [a = a.shape(), b = b.shape()](Backward& back) {
    if (back.wants(0)) back.accumulate(0, sum_to(back.output(), a).value());
    if (back.wants(1)) back.accumulate(1, negative(sum_to(back.output(), b).value()));
  });
}

Var mul(const Var& a, const Var& b) {
  const Tensor y = binary_values("mul", Binary::mul, a, b);
  return record("mul", {a, b}, y, [a = a.value(), b = b.value()](Backward& back) {
    const Tensor& dy = back.output();
    if (back.wants(0)) back.accumulate(0, sum_to(mul(dy, b), a.shape()).value());
    if (back.wants(1)) back.accumulate(1, sum_to(mul(dy, a), b.shape()).value());
  });
}

Var div(const Var& a, const Var& b) {
  const Tensor y = binary_values("div", Binary::div, a, b);
  return record("div", {a, b}, y, [a = a.shape(), b = b.value(), y](Backward& back) {
    const Tensor da = div(back.output(), b).value();  // of the result's shape
    if (back.wants(0)) back.accumulate(0, sum_to(da, a).value());
    if (back.wants(1)) back.accumulate(1, negative(sum_to(mul(da, y), b.shape()).value()));
  });
}

void run(Cpu cpu, const UnaryForward& args) {
  run_pieces(cpu, FPRNN_SELECT(cpu, unary_forward), args, args.count, kGrain);
}

void run(Cpu cpu, const UnaryBackward& args) {
  run_pieces(cpu, FPRNN_SELECT(cpu, unary_backward), args, args.count, kGrain);
}

void run(Cpu cpu, const BinaryForward& args) {
  run_pieces(cpu, FPRNN_SELECT(cpu, binary_forward), args, args.count, kGrain);
}

}  // namespace fprnn
