// Moving rows. Copies take a quad of neighbours a thread where strides and addresses allow it, else one
// element: one read and one write of each.
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/layout.h>

namespace fprnn {

namespace cuda {
namespace {

// Lengths and strides in packs.
template <int Width>
struct CopyPack {
  const Pack<Width>* from;
  Pack<Width>* to;
  int64_t length, from_stride, to_stride;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / length, column = i - row * length;
    to[row * to_stride + column] = from[row * from_stride + column];
  }
};

template <int Width>
FPRNN_HOST_DEVICE CopyPack<Width> in_packs(const CopyRows& args) {
  return {packs<Width>(args.from), packs<Width>(args.to), args.length / Width,
          args.from_stride / Width, args.to_stride / Width};
}
bool in_quads(const CopyRows& args) {
  constexpr int kWidth = Quad::kCount;
  return args.length % kWidth == 0 && args.from_stride % kWidth == 0 &&
         args.to_stride % kWidth == 0 && quads_aligned(args.from, args.to);
}

// Blocks take the parts in turns.
template <int Width>
__global__ void copy_parts_kernel(CopyParts args, int64_t blocks_each) {
  const CopyRows& part = args.parts[blockIdx.x % args.count];
  const CopyPack<Width> copy = in_packs<Width>(part);
  const int64_t count = part.rows * copy.length;
  for (int64_t i = int64_t{blockIdx.x / args.count} * blockDim.x + threadIdx.x; i < count;
       i += blocks_each * blockDim.x)
    copy(i);
}

struct CheckToken {
  CheckTokens args;
  FaultNote note;
  __device__ void operator()(int64_t i) const {
    const int32_t token = args.tokens[i];
    if (token < 0 || token >= args.V) note(Fault::Rule::token, token, i, args.V);
  }
};

template <int Width>
struct GatherPack {
  GatherRows args;
  __device__ void operator()(int64_t i) const {
    const int64_t D = args.D / Width, position = i / D;
    const int64_t token = args.tokens[position];
    const int64_t row = token >= 0 && token < args.V ? token : 0;
    packs<Width>(args.out)[i] = packs<Width>(args.table)[row * D + (i - position * D)];
  }
};

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const CopyRows& args) {
  with_width(args.length, in_quads(args), [&](auto width) {
    for_each(cuda, "copy_rows", args.rows * (args.length / width), in_packs<width>(args));
  });
}

void run(Cuda cuda, const CopyParts& args) {
  constexpr int kThreads = 256;
  constexpr int64_t kBlocks = 1 << 14;
  int64_t most = 0;
  for (int i = 0; i < args.count; ++i)
    most = std::max(most, args.parts[i].rows * args.parts[i].length);
  const bool quads = std::all_of(args.parts, args.parts + args.count, in_quads);
  with_width(most, quads, [&](auto width) {
    const int64_t blocks = std::min(ceil_div(most / width, kThreads), kBlocks);
    start(cuda, "copy_parts", copy_parts_kernel<width>,
          {.blocks = blocks * args.count, .threads = kThreads}, args, blocks);
  });
}

void run(Cuda cuda, const CheckTokens& args) {
  for_each(cuda, "check_tokens", args.count, CheckToken{args, fault_note(cuda)});
}

void run(Cuda cuda, const GatherRows& args) {
  if (args.V == 0) return;  // no row at all: whatever tokens there are have been noted
  with_width(args.D, quads_aligned(args.table, args.out), [&](auto width) {
    for_each(cuda, "gather_rows", args.count * (args.D / width), GatherPack<width>{args});
  });
}

}  // namespace fprnn
