#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/elementwise_functions.h>

namespace fprnn {

namespace cuda {
namespace {

// One thread takes one element, or a quad of neighbours where all pointers allow it.
template <class Function, int W>
struct Value {
  Function function;
  const Pack<W>* x;
  Pack<W>* y;
  __device__ void operator()(int64_t i) const {
    Pack<W> out = x[i];
    unrolled<W>([&](int j) { out.v[j] = function.value(out.v[j]); });
    y[i] = out;
  }
};

template <class Function, int W>
struct Slope {
  Function function;
  const Pack<W>*kept, *dy;
  Pack<W>* dx;
  __device__ void operator()(int64_t i) const {
    const Pack<W> k = kept[i];
    Pack<W> out = dy[i];
    unrolled<W>([&](int j) { out.v[j] *= function.slope(k.v[j]); });
    dx[i] = out;
  }
};

template <class Function, int W>
struct Pair {
  Function function;
  const Pack<W>*a, *b;
  Pack<W>* y;
  int64_t period;  // of packs
  __device__ void operator()(int64_t i) const {
    const Pack<W> p = a[i], q = b[W > 1 && i < period ? i : i % period];
    Pack<W> out;
    unrolled<W>([&](int j) { out.v[j] = function.value(p.v[j], q.v[j]); });
    y[i] = out;
  }
};

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const UnaryForward& args) {
  with_function(args.function, args.scale, args.shift, [&](auto function) {
    with_width(args.count, quads_aligned(args.x, args.y), [&](auto width) {
      for_each(cuda, "unary_forward", args.count / width,
               Value<decltype(function), width()>{function, packs<width()>(args.x),
                                                  packs<width()>(args.y)});
    });
  });
}

void run(Cuda cuda, const UnaryBackward& args) {
  with_function(args.function, args.scale, args.shift, [&](auto function) {
    with_width(args.count, quads_aligned(args.kept, args.dy, args.dx), [&](auto width) {
      for_each(
          cuda, "unary_backward", args.count / width,
          Slope<decltype(function), width()>{function, packs<width()>(args.kept),
                                             packs<width()>(args.dy), packs<width()>(args.dx)});
    });
  });
}

void run(Cuda cuda, const BinaryForward& args) {
  const bool aligned = quads_aligned(args.a, args.b, args.y) && args.period % Quad::kCount == 0;
  with_function(args.function, 1, 0, [&](auto function) {
    with_width(args.count, aligned, [&](auto width) {
      for_each(cuda, "binary_forward", args.count / width,
               Pair<decltype(function), width()>{function, packs<width()>(args.a),
                                                 packs<width()>(args.b), packs<width()>(args.y),
                                                 args.period / width});
    });
  });
}

}  // namespace fprnn
