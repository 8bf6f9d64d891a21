#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

FPRNN_KERNEL(void sum_rows(const real* x, real* y, int64_t rows, int64_t inner))
FPRNN_KERNEL(real sum_contiguous(const real* x, int64_t count))

namespace {

constexpr int64_t kReducePiece = 512;  // elements of the middle axis

// A shape seen as (outer, middle, inner) around an axis, or around several neighbouring ones.
struct Around {
  int64_t outer, middle, inner;
};

Around around(const Shape& shape, int axis) {
  return {shape.elements_before(axis), shape[axis], shape.elements_after(axis)};
}

// SumMiddle or RepeatMiddle of x.
template <class Args>
Tensor over_middle(const Tensor& x, const Around& at, const Shape& shape) {
  Tensor y(x.context(), shape);
  launch(x.context(), Args{x.data(), y.data(), at.outer, at.middle, at.inner});
  return y;
}
constexpr auto sum_middle = over_middle<SumMiddle>;
constexpr auto repeat_middle = over_middle<RepeatMiddle>;

// Calls visit(around, size-1 shape) for each axis that `from` is repeated along to become `to`,
// last axis first; missing leading axes count as one.
template <class Visit>
void for_repeated_axes(std::string_view op, const Shape& from, const Shape& to,
                       const Visit& visit) {
  const int missing = to.rank() - from.rank();
  require(missing >= 0, op, "the target must have at least as many axes", from, to);
  for (int axis = to.rank() - 1; axis >= missing; --axis) {
    const int64_t size = from[axis - missing];
    require(size == to[axis] || size == 1, op, "sizes must be equal or 1", from, to);
    if (size != to[axis]) visit(axis, missing);
  }
}

int64_t leading_elements(const Shape& shape, int axes) {
  return axes == 0 ? 1 : shape.elements_before(axes - 1) * shape[axes - 1];
}

Var sum_around(const Var& x, const Around& at, const Shape& shape) {
  return record("sum", {x}, sum_middle(x.value(), at, shape),
                [at, shape = x.shape()](Backward& back) {
                  back.accumulate(0, repeat_middle(back.output(), at, shape));
                });
}

}  // namespace

Var sum(const Var& x) { return sum_around(x, {1, x.elements(), 1}, Shape{}); }

Var sum(const Var& x, int axis) {
  return sum_around(x, around(x.shape(), axis), x.shape().without(axis));
}

Var mean(const Var& x) {
  require<ValueError>(x.elements() > 0, "mean", "there must be elements", x.shape());
  return affine(sum(x), real(1) / x.elements(), 0);
}

Var mean(const Var& x, int axis) {
  require<ValueError>(x.size(axis) > 0, "mean", "the axis must not be empty", x.shape(), axis);
  return affine(sum(x, axis), real(1) / x.size(axis), 0);
}

Var broadcast_to(const Var& x, const Shape& shape) {
  Tensor y = x.value();
  // Sizes of the axes still to be repeated are those of x; the ones right of them already those of
  // y.
  for_repeated_axes("broadcast_to", x.shape(), shape, [&](int axis, int missing) {
    const Shape next = y.shape().with(axis - missing, shape[axis]);
    y = repeat_middle(y, around(next, axis - missing), next);
  });
  const int missing = shape.rank() - x.shape().rank();
  if (y.elements() != shape.elements())
    y = repeat_middle(y, {1, leading_elements(shape, missing), y.elements()}, shape);
  return record("broadcast_to", {x}, y.reshaped(shape), [from = x.shape()](Backward& back) {
    back.accumulate(0, sum_to(back.output(), from).value());
  });
}

Var sum_to(const Var& x, const Shape& shape) {
  Tensor y = x.value();
  const int missing = x.shape().rank() - shape.rank();
  require(missing >= 0, "sum_to", "the target must not have more axes", x.shape(), shape);
  const int64_t leading = leading_elements(x.shape(), missing);
  const Shape rest(x.shape().sizes().subspan(missing));
  y = leading == 1 ? y.reshaped(rest) : sum_middle(y, {1, leading, rest.elements()}, rest);
  for_repeated_axes("sum_to", shape, rest, [&](int axis, int) {
    y = sum_middle(y, around(y.shape(), axis), y.shape().with(axis, 1));
  });
  return record("sum_to", {x}, y.reshaped(shape), [from = x.shape()](Backward& back) {
    back.accumulate(0, broadcast_to(back.output(), from).value());
  });
}

void run(Cpu cpu, const SumMiddle& args) {
  const auto rows = FPRNN_SELECT(cpu, sum_rows);
  const auto contiguous = FPRNN_SELECT(cpu, sum_contiguous);
  const int64_t count = std::max<int64_t>(1, pieces(args.middle, kReducePiece));
  // One partial sum (inner) for each piece of each outer index, then the pieces in order.
  Tensor partial =
      count == 1 ? Tensor() : Tensor(cpu.context, Shape{args.outer, count, args.inner});
  real* sums = count == 1 ? args.y : partial.data();
  const auto sum_piece = [&](int64_t unit) {
    const int64_t outer = unit / count, begin = unit % count * kReducePiece;
    const int64_t length = std::min(args.middle - begin, kReducePiece);
    const real* x = args.x + (outer * args.middle + begin) * args.inner;
    if (args.inner == 1)
      sums[unit] = contiguous(x, length);
    else
      rows(x, sums + unit * args.inner, length, args.inner);
  };
  const int64_t cost = std::min(args.middle, kReducePiece) * args.inner;
  parallel_for(cpu, args.outer * count, grain_for(cost), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) sum_piece(unit);
  });
  if (count > 1)
    for (int64_t outer = 0; outer < args.outer; ++outer)
      rows(sums + outer * count * args.inner, args.y + outer * args.inner, count, args.inner);
}

void run(Cpu cpu, const RepeatMiddle& args) {
  if (args.inner == 1)
    return parallel_for(cpu, args.outer, grain_for(args.middle), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::fill_n(args.y + i * args.middle, args.middle, args.x[i]);
    });
  const int64_t rows = args.outer * args.middle;
  parallel_for(cpu, rows, grain_for(args.inner), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      std::copy_n(args.x + row / args.middle * args.inner, args.inner, args.y + row * args.inner);
  });
}

}  // namespace fprnn
