#include <fprnn/core/fault.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/op.h>

namespace fprnn {

namespace {

// Writes `part` into `whole` from index `begin` of the axis on, or reads it back from there.
enum class Direction { into_whole, out_of_whole };
CopyRows copy_of_part(const Tensor& whole, const Tensor& part, int axis, int64_t begin,
                      Direction direction) {
  const int64_t inner = whole.shape().elements_after(axis);
  const int64_t whole_stride = whole.size(axis) * inner, part_stride = part.size(axis) * inner;
  real* at = whole.data() + begin * inner;
  const bool into = direction == Direction::into_whole;
  return {.from = into ? part.data() : at,
          .to = into ? at : part.data(),
          .rows = whole.shape().elements_before(axis),
          .length = part_stride,
          .from_stride = into ? part_stride : whole_stride,
          .to_stride = into ? whole_stride : part_stride};
}
void copy_part(const Tensor& whole, const Tensor& part, int axis, int64_t begin,
               Direction direction) {
  launch(whole.context(), copy_of_part(whole, part, axis, begin, direction));
}
// The same for parts side by side from the first index on; undefined ones are passed over. Sizes
// along the axis are given for them too.
void copy_parts(const Tensor& whole, const std::vector<Tensor>& parts, int axis,
                const std::vector<int64_t>& sizes, Direction direction) {
  CopyParts some{};
  int64_t begin = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].defined())
      some.parts[some.count++] = copy_of_part(whole, parts[i], axis, begin, direction);
    begin += sizes[i];
    if (some.count == CopyParts::kMost || (some.count > 0 && i + 1 == parts.size())) {
      launch(whole.context(), some);
      some.count = 0;
    }
  }
}

Tensor part_of(const Tensor& whole, int axis, int64_t begin, int64_t end) {
  Tensor part(whole.context(), whole.shape().with(axis, end - begin));
  copy_part(whole, part, axis, begin, Direction::out_of_whole);
  return part;
}

}  // namespace

Var reshape(const Var& x, const Shape& shape) {
  return record("reshape", {x}, x.value().reshaped(shape), [from = x.shape()](Backward& back) {
    back.accumulate(0, back.output().reshaped(from));
  });
}

Var concat(const std::vector<Var>& parts, int axis) {
  require(!parts.empty(), "concat", "there must be parts");
  const Shape& shape = parts[0].shape();
  int64_t total = 0;
  std::vector<Tensor> values;
  std::vector<int64_t> sizes;
  for (const Var& part : parts) {
    require(
        part.shape().rank() == shape.rank() && part.shape().with(axis, 0) == shape.with(axis, 0),
        "concat", "parts must differ along the axis alone", shape, part.shape());
    require_together("concat", parts[0], part);
    require(!__builtin_add_overflow(total, part.size(axis), &total), "concat",
            "the sizes along the axis must add up to 63 bits", total, part.size(axis));
    values.push_back(part.value());
    sizes.push_back(part.size(axis));
  }
  const Tensor y(parts[0].context(), shape.with(axis, total));
  copy_parts(y, values, axis, sizes, Direction::into_whole);
  return record("concat", parts, y, [axis, sizes](Backward& back) {
    const Tensor& dy = back.output();
    std::vector<Tensor> wanted(sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i)
      if (back.wants(static_cast<int>(i)))
        wanted[i] = Tensor(dy.context(), dy.shape().with(axis, sizes[i]));
    copy_parts(dy, wanted, axis, sizes, Direction::out_of_whole);
    give_all(back, wanted);
  });
}

std::vector<Var> split(const Var& x, int axis, const std::vector<int64_t>& sizes) {
  int64_t total = 0;
  bool sound = !sizes.empty();
  for (const int64_t size : sizes) {
    sound &= size >= 0 && size <= x.size(axis) - total;
    total += sound ? size : 0;
  }
  require<ValueError>(sound && total == x.size(axis), "split",
                      "sizes must add up to that of the axis", x.shape(), axis, total);
  std::vector<Tensor> parts;
  for (const int64_t size : sizes) parts.emplace_back(x.context(), x.shape().with(axis, size));
  copy_parts(x.value(), parts, axis, sizes, Direction::out_of_whole);
  return record_all("split", {x}, std::move(parts),
                    [=, context = x.context(), shape = x.shape()](Backward& back) {
                      const Tensor dx(context, shape);
                      std::vector<Tensor> dparts;
                      for (size_t i = 0; i < sizes.size(); ++i)
                        dparts.push_back(back.output(static_cast<int>(i)));
                      copy_parts(dx, dparts, axis, sizes, Direction::into_whole);
                      back.accumulate(0, dx);
                    });
}

Var slice(const Var& x, int axis, int64_t begin, int64_t end) {
  require<ValueError>(0 <= begin && begin <= end && end <= x.size(axis), "slice",
                      "0 <= begin <= end <= size must hold", begin, end, x.shape());
  const Tensor y = part_of(x.value(), axis, begin, end);
  return record("slice", {x}, y, [=, shape = x.shape()](Backward& back) {
    const Tensor dx = zeros(back.output().context(), shape);
    copy_part(dx, back.output(), axis, begin, Direction::into_whole);
    back.accumulate(0, dx);
  });
}

Var shift(const Var& x, const Var& first) {
  require(x.shape().rank() == 3, "shift", "x must be (B, T, D)", x.shape());
  const int64_t B = x.size(0), T = x.size(1), D = x.size(2);
  require(fits(first, Shape{B, D}), "shift", "first must be (B, D)", first.shape(), x.shape());
  require_together("shift", x, first);
  if (T == 0)
    return record("shift", {x, first}, x.value(), [=, context = x.context()](Backward& back) {
      back.accumulate(0, back.output());
      if (back.wants(1)) back.accumulate(1, zeros(context, Shape{B, D}));
    });
  // From x to y one step later, or from dy to dx one step earlier.
  const auto move = [=](const Tensor& from, int64_t skipped, const Tensor& to, int64_t left) {
    launch(to.context(), CopyRows{.from = from.data() + skipped,
                                  .to = to.data() + left,
                                  .rows = B,
                                  .length = (T - 1) * D,
                                  .from_stride = T * D,
                                  .to_stride = T * D});
  };
  const Tensor start = first.defined() ? first.value() : zeros(x.context(), Shape{B, D});
  const Tensor y = like(x);
  copy_part(y, start.reshaped(Shape{B, 1, D}), 1, 0, Direction::into_whole);
  move(x.value(), 0, y, D);
  return record("shift", {x, first}, y, [=](Backward& back) {
    const Tensor& dy = back.output();
    if (back.wants(0)) {
      const Tensor dx = zeros(dy.context(), dy.shape());
      move(dy, D, dx, 0);
      back.accumulate(0, dx);
    }
    if (back.wants(1)) back.accumulate(1, part_of(dy, 1, 0, 1).reshaped(Shape{B, D}));
  });
}

Var embedding(const Var& table, const IntTensor& tokens) {
  require(table.shape().rank() == 2, "embedding", "the table must be (V, D)", table.shape());
  require_together("embedding", table, tokens);
  const int64_t V = table.size(0), D = table.size(1), count = tokens.elements();
  launch(table.context(), CheckTokens{.tokens = tokens.data(), .count = count, .V = V});
  Tensor y(table.context(), tokens.shape().appended(D));
  launch(table.context(), GatherRows{.table = table.data(),
                                     .tokens = tokens.data(),
                                     .out = y.data(),
                                     .count = count,
                                     .D = D,
                                     .V = V});
  return record("embedding", {table}, y, [=](Backward& back) {
    const Tensor& dy = back.output();
    const Tensor dtable(dy.context(), Shape{V, D});
    launch(dy.context(), ScatterAddRows{.dout = dy.data(),
                                        .tokens = tokens.data(),
                                        .dtable = dtable.data(),
                                        .count = count,
                                        .D = D,
                                        .V = V});
    back.accumulate(0, dtable);
  });
}

void run(Cpu cpu, const CopyRows& args) {
  parallel_for(cpu, args.rows, grain_for(args.length), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      std::copy_n(args.from + row * args.from_stride, args.length, args.to + row * args.to_stride);
  });
}

void run(Cpu cpu, const CopyParts& args) {
  for (int i = 0; i < args.count; ++i) run(cpu, args.parts[i]);
}

void run(Cpu, const CheckTokens& args) {
  for (int64_t i = 0; i < args.count; ++i)
    if (args.tokens[i] < 0 || args.tokens[i] >= args.V)
      throw_fault({Fault::Rule::token, args.tokens[i], i, args.V});
}

void run(Cpu cpu, const GatherRows& args) {
  parallel_for(cpu, args.count, grain_for(args.D), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::copy_n(args.table + args.tokens[i] * args.D, args.D, args.out + i * args.D);
  });
}

// Columns are independent: each thread adds its own for all positions.
void run(Cpu cpu, const ScatterAddRows& args) {
  const int64_t columns = 16;
  parallel_for(cpu, args.D, columns, [&](int64_t begin, int64_t end) {
    for (int64_t v = 0; v < args.V; ++v)
      std::fill(args.dtable + v * args.D + begin, args.dtable + v * args.D + end, real(0));
    for (int64_t i = 0; i < args.count; ++i) {
      real* row = args.dtable + args.tokens[i] * args.D;
      for (int64_t d = begin; d < end; ++d) row[d] += args.dout[i * args.D + d];
    }
  });
}

void put_rows(const Tensor& rows, const Tensor& x, int64_t begin) {
  copy_part(x, rows, 0, begin, Direction::into_whole);
}

}  // namespace fprnn
