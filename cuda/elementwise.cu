#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/ops/elementwise_functions.h>

namespace fprnn {

namespace cuda {
namespace {

// One thread takes one element, or a quad of neighbours where all pointers allow it.
template <class Function>
struct Value {
  Function function;
  const real* x;
  real* y;
  __device__ void operator()(int64_t i) const { y[i] = function.value(x[i]); }
};
template <class Function>
struct ValueQuad {
  Function function;
  const Quad* x;
  Quad* y;
  __device__ void operator()(int64_t i) const {
    Quad q = x[i];
#pragma unroll
    for (real& v : q.v) v = function.value(v);
    y[i] = q;
  }
};

template <class Function>
struct Slope {
  Function function;
  const real *kept, *dy;
  real* dx;
  __device__ void operator()(int64_t i) const { dx[i] = dy[i] * function.slope(kept[i]); }
};
template <class Function>
struct SlopeQuad {
  Function function;
  const Quad *kept, *dy;
  Quad* dx;
  __device__ void operator()(int64_t i) const {
    const Quad k = kept[i];
    Quad q = dy[i];
#pragma unroll
    for (int j = 0; j < Quad::kCount; ++j) q.v[j] *= function.slope(k.v[j]);
    dx[i] = q;
  }
};

template <class Function>
struct Pair {
  Function function;
  const real *a, *b;
  real* y;
  int64_t period;
  __device__ void operator()(int64_t i) const { y[i] = function.value(a[i], b[i % period]); }
};
template <class Function>
struct PairQuad {
  Function function;
  const Quad *a, *b;
  Quad* y;
  int64_t period;  // of quads
  __device__ void operator()(int64_t i) const {
    const Quad p = a[i], q = b[i < period ? i : i % period];
    Quad out;
#pragma unroll
    for (int j = 0; j < Quad::kCount; ++j) out.v[j] = function.value(p.v[j], q.v[j]);
    y[i] = out;
  }
};

const Quad* quads(const real* x) { return reinterpret_cast<const Quad*>(x); }
Quad* quads(real* x) { return reinterpret_cast<Quad*>(x); }

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const UnaryForward& args) {
  const bool whole = quads_aligned(args.x, args.y) && args.count % Quad::kCount == 0;
  with_function(args.function, args.scale, args.shift, [&](auto function) {
    if (whole)
      for_each(cuda, "unary_forward", args.count / Quad::kCount,
               ValueQuad<decltype(function)>{function, quads(args.x), quads(args.y)});
    else
      for_each(cuda, "unary_forward", args.count,
               Value<decltype(function)>{function, args.x, args.y});
  });
}

void run(Cuda cuda, const UnaryBackward& args) {
  const bool whole = quads_aligned(args.kept, args.dy, args.dx) && args.count % Quad::kCount == 0;
  with_function(args.function, args.scale, args.shift, [&](auto function) {
    if (whole)
      for_each(cuda, "unary_backward", args.count / Quad::kCount,
               SlopeQuad<decltype(function)>{function, quads(args.kept), quads(args.dy),
                                             quads(args.dx)});
    else
      for_each(cuda, "unary_backward", args.count,
               Slope<decltype(function)>{function, args.kept, args.dy, args.dx});
  });
}

void run(Cuda cuda, const BinaryForward& args) {
  const bool whole = quads_aligned(args.a, args.b, args.y) && args.count % Quad::kCount == 0 &&
                     args.period % Quad::kCount == 0;
  with_function(args.function, 1, 0, [&](auto function) {
    if (whole)
      for_each(cuda, "binary_forward", args.count / Quad::kCount,
               PairQuad<decltype(function)>{function, quads(args.a), quads(args.b), quads(args.y),
                                            args.period / Quad::kCount});
    else
      for_each(cuda, "binary_forward", args.count,
               Pair<decltype(function)>{function, args.a, args.b, args.y, args.period});
  });
}

}  // namespace fprnn
