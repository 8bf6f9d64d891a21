#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>

#include <cstring>

namespace fprnn {

FPRNN_KERNEL(void vector_add(real* y, const real* x, int64_t count))
FPRNN_KERNEL(double vector_sum_of_squares(const real* x, int64_t count))
FPRNN_KERNEL(real vector_max_abs(const real* x, int64_t count))

Tensor full(const Context& context, const Shape& shape, real value) {
  Tensor out(context, shape);
  launch(context, Fill{.out = out.data(), .count = out.elements(), .value = value});
  return out;
}

Tensor clone(const Tensor& x) {
  Tensor out(x.context(), x.shape());
  copy(x, out);
  return out;
}

void copy(const Tensor& from, const Tensor& to) {
  require(from.elements() == to.elements(), "copy", "both must have as many elements", from.shape(),
          to.shape());
  if (!together(from, to)) {
    const std::vector<real> values = from.to_vector();
    return launch(to.context(), FromHost{.from = values.data(),
                                         .to = to.data(),
                                         .bytes = to.elements() * int64_t{sizeof(real)}});
  }
  launch(from.context(), Copy{.from = from.data(), .to = to.data(), .count = from.elements()});
}

void add_in_place(const Tensor& y, const Tensor& x) {
  require(y.shape() == x.shape(), "add_in_place", "both must have the same shape", y.shape(),
          x.shape());
  require_together("add_in_place", y, x);
  launch(y.context(), AddInPlace{.y = y.data(), .x = x.data(), .count = y.elements()});
}

namespace {

// The numbers that a reduction leaves, one a piece of x.
template <class Reduction>
auto by_pieces(const Tensor& x) {
  using Pointer = decltype(Reduction::partial);
  std::vector<std::remove_pointer_t<Pointer>> partial(pieces(x.elements(), kGrain));
  const auto bytes = static_cast<int64_t>(std::span(partial).size_bytes());
  const Storage there(x.context(), bytes);
  launch(x.context(),
         Reduction{
             .x = x.data(), .count = x.elements(), .partial = static_cast<Pointer>(there.data())});
  launch(x.context(), ToHost{.from = there.data(), .to = partial.data(), .bytes = bytes});
  return partial;
}

}  // namespace

double sum_of_squares(const Tensor& x) {
  double total = 0;
  for (const double value : by_pieces<SumOfSquares>(x)) total += value;
  return total;
}

real max_abs(const Tensor& x) {
  real largest = 0;
  for (const real value : by_pieces<MaxAbs>(x)) largest = larger_or_nan(value, largest);
  return largest;
}

IntTensor int_zeros(const Context& context, const Shape& shape) {
  const IntTensor out(context, shape);
  launch(context, IntFill{.out = out.data(), .count = out.elements(), .value = 0});
  return out;
}

void raise_to(const IntTensor& y, const IntTensor& x) {
  require(y.shape() == x.shape(), "raise_to", "both must have the same shape", y.shape(),
          x.shape());
  require_together("raise_to", y, x);
  launch(y.context(), RaiseTo{.y = y.data(), .x = x.data(), .count = y.elements()});
}

IntTensor argmax(const Tensor& x) {
  require(x.shape().rank() >= 1 && x.size(-1) >= 1, "argmax", "x must be (..., V) with V >= 1",
          x.shape());
  const IntTensor place(x.context(), x.shape().without(-1));
  launch(x.context(),
         Argmax{.x = x.data(), .place = place.data(), .rows = place.elements(), .V = x.size(-1)});
  return place;
}

void run(Cpu cpu, const Fill& args) {
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    std::fill(args.out + begin, args.out + end, args.value);
  });
}

void run(Cpu, const IntFill& args) { std::fill_n(args.out, args.count, args.value); }

void run(Cpu, const RaiseTo& args) {
  for (int64_t i = 0; i < args.count; ++i) args.y[i] = std::max(args.y[i], args.x[i]);
}

void run(Cpu cpu, const Argmax& args) {
  parallel_for(cpu, args.rows, grain_for(args.V), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const real* x = args.x + row * args.V;
      int64_t best = 0;
      for (int64_t i = 0; i < args.V && best >= 0; ++i)
        best = x[i] != x[i] ? -1 : x[i] > x[best] ? i : best;
      args.place[row] = static_cast<int32_t>(best);
    }
  });
}

void run(Cpu cpu, const Copy& args) {
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    std::memcpy(args.to + begin, args.from + begin, (end - begin) * sizeof(real));
  });
}

void run(Cpu cpu, const AddInPlace& args) {
  const auto kernel = FPRNN_SELECT(cpu, vector_add);
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    kernel(args.y + begin, args.x + begin, end - begin);
  });
}

void run(Cpu cpu, const SumOfSquares& args) {
  const auto kernel = FPRNN_SELECT(cpu, vector_sum_of_squares);
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    args.partial[begin / kGrain] = kernel(args.x + begin, end - begin);
  });
}

void run(Cpu cpu, const MaxAbs& args) {
  const auto kernel = FPRNN_SELECT(cpu, vector_max_abs);
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    args.partial[begin / kGrain] = kernel(args.x + begin, end - begin);
  });
}

}  // namespace fprnn
