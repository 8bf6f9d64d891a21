#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

FPRNN_KERNEL(void unary_forward(const UnaryForward&, int64_t begin, int64_t end))
FPRNN_KERNEL(void unary_backward(const UnaryBackward&, int64_t begin, int64_t end))
FPRNN_KERNEL(void binary_forward(const BinaryForward&, int64_t begin, int64_t end))
FPRNN_KERNEL(bool slope_takes_result(Unary function))

Var unary(std::string_view op, Unary function, const Var& x, real scale, real shift) {
  Tensor y(x.context(), x.shape());
  launch(x.context(), UnaryForward{.function = function,
                                   .x = x.data(),
                                   .y = y.data(),
                                   .count = x.elements(),
                                   .scale = scale,
                                   .shift = shift});
  const Tensor kept = baseline::slope_takes_result(function) ? y : x.value();
  return record(op, {x}, y, [=](Backward& back) {
    const Tensor& dy = back.output();
    Tensor dx(dy.context(), dy.shape());
    launch(dy.context(), UnaryBackward{.function = function,
                                       .kept = kept.data(),
                                       .dy = dy.data(),
                                       .dx = dx.data(),
                                       .count = dy.elements(),
                                       .scale = scale,
                                       .shift = shift});
    back.give(0, dx);
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

Tensor binary_values(Binary function, const Shape& shape, Tensor a, Tensor b) {
  Tensor y(a.context(), shape);
  if (shape.elements() == 0) return y;
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
  const Shape shape = broadcast_shape("add", a, b);
  // The longer operand goes first: the second may repeat without a copy.
  const bool swap = a.shape() != shape;
  const Tensor y =
      binary_values(Binary::add, shape, (swap ? b : a).value(), (swap ? a : b).value());
  return record("add", {a, b}, y, [a = a.shape(), b = b.shape()](Backward& back) {
    if (back.wants(0)) back.give(0, sum_to(back.output(), a).value());
    if (back.wants(1)) back.give(1, sum_to(back.output(), b).value());
  });
}

Var sub(const Var& a, const Var& b) {
  const Shape shape = broadcast_shape("sub", a, b);
  const Tensor y = binary_values(Binary::sub, shape, a.value(), b.value());
  return record("sub", {a, b}, y, [a = a.shape(), b = b.shape()](Backward& back) {
    if (back.wants(0)) back.give(0, sum_to(back.output(), a).value());
    if (back.wants(1)) back.give(1, negative(sum_to(back.output(), b).value()));
  });
}

Var mul(const Var& a, const Var& b) {
  const Shape shape = broadcast_shape("mul", a, b);
  const bool swap = a.shape() != shape;
  const Tensor y =
      binary_values(Binary::mul, shape, (swap ? b : a).value(), (swap ? a : b).value());
  return record("mul", {a, b}, y, [a = a.value(), b = b.value()](Backward& back) {
    const Tensor& dy = back.output();
    if (back.wants(0)) back.give(0, sum_to(mul(dy, b), a.shape()).value());
    if (back.wants(1)) back.give(1, sum_to(mul(dy, a), b.shape()).value());
  });
}

Var div(const Var& a, const Var& b) {
  const Shape shape = broadcast_shape("div", a, b);
  const Tensor y = binary_values(Binary::div, shape, a.value(), b.value());
  return record("div", {a, b}, y, [a = a.shape(), b = b.value(), y](Backward& back) {
    const Tensor da = div(back.output(), b).value();  // of the result's shape
    if (back.wants(0)) back.give(0, sum_to(da, a).value());
    if (back.wants(1)) back.give(1, negative(sum_to(mul(da, y), b.shape()).value()));
  });
}

void run(Cpu cpu, const UnaryForward& args) {
  const auto kernel = FPRNN_SELECT(cpu, unary_forward);
  parallel_for(cpu, args.count, kGrain,
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

void run(Cpu cpu, const UnaryBackward& args) {
  const auto kernel = FPRNN_SELECT(cpu, unary_backward);
  parallel_for(cpu, args.count, kGrain,
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

void run(Cpu cpu, const BinaryForward& args) {
  const auto kernel = FPRNN_SELECT(cpu, binary_forward);
  parallel_for(cpu, args.count, kGrain,
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace fprnn
