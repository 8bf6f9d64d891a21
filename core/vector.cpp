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
  launch(from.context(), Copy{.from = from.data(), .to = to.data(), .count = from.elements()});
}

void add_in_place(const Tensor& y, const Tensor& x) {
  require(y.shape() == x.shape(), "add_in_place", "both must have the same shape", y.shape(),
          x.shape());
  launch(y.context(), AddInPlace{.y = y.data(), .x = x.data(), .count = y.elements()});
}

double sum_of_squares(const Tensor& x) {
  std::vector<double> partial(pieces(x.elements(), kGrain));
  launch(x.context(),
         SumOfSquares{.x = x.data(), .count = x.elements(), .partial = partial.data()});
  double total = 0;
  for (const double value : partial) total += value;
  return total;
}

real max_abs(const Tensor& x) {
  std::vector<real> partial(pieces(x.elements(), kGrain));
  launch(x.context(), MaxAbs{.x = x.data(), .count = x.elements(), .partial = partial.data()});
  real largest = 0;
  for (const real value : partial)
    if (largest == largest && !(value <= largest)) largest = value;  // once NaN, it stays
  return largest;
}

void run(Cpu cpu, const Fill& args) {
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    std::fill(args.out + begin, args.out + end, args.value);
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
