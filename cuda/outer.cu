// One thread takes one element, or a quad of neighbours of a row where all pointers allow it: reads h
// and writes out once, u and v come from caches. Bound by memory.
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/outer.h>

namespace fprnn {

namespace cuda {
namespace {

// Neighbouring columns; Width reals at once.
template <int Width>
struct AddColumns {
  AddOuter args;
  __device__ void operator()(int64_t i) const {
    const int64_t N = args.N / Width, row = i / N, token = row / args.M;
    Pack<Width> h = packs<Width>(args.h)[i];
    const Pack<Width> v = packs<Width>(args.v)[token * N + (i - row * N)];
    const real u = args.u[row];
    unrolled<Width>([&](int j) { h.v[j] += u * v.v[j]; });
    packs<Width>(args.out)[i] = h;
  }
};

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const AddOuter& args) {
  with_width(args.N, quads_aligned(args.h, args.v, args.out), [&](auto width) {
    for_each(cuda, "add_outer", args.tokens * args.M * (args.N / width), AddColumns<width>{args});
  });
}

}  // namespace fprnn
