// All parameters in one launch (as many as fit a kernel's arguments): blocks are numbered through
// the pieces of all parts. The norm is a sum of the pieces' sums in order, by one block; what
// clips, and whether the step is taken at all, every block reads from it, so the host waits for
// nothing.
#include <fprnn/core/pieces.h>
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/unroll.cuh>
#include <fprnn/ops/adamw_update.h>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kParts = 64;        // in one launch
constexpr int64_t kPiece = 1024;  // elements of a block: one quad a thread, or two of doubles

struct Parts {
  AdamWPart part[kParts];
  int64_t first[kParts + 1];  // piece of each
  int count;

  // The piece's part and the elements of it.
  __device__ const AdamWPart& find(int64_t piece, int64_t& begin, int64_t& end) const {
    int i = 0;
    while (piece >= first[i + 1]) ++i;
    begin = (piece - first[i]) * kPiece;
    end = min(part[i].count, begin + kPiece);
    return part[i];
  }
};

// visit(parts, pieces before them) for every launch's share.
template <class Visit>
void for_parts(std::span<const AdamWPart> all, const Visit& visit) {
  int64_t before = 0;
  for (size_t begin = 0; begin < all.size(); begin += kParts) {
    Parts parts{};
    for (size_t i = begin; i < std::min(all.size(), begin + kParts); ++i) {
      parts.part[parts.count] = all[i];
      parts.first[parts.count + 1] = parts.first[parts.count] + pieces(all[i].count, kPiece);
      ++parts.count;
    }
    visit(parts, before);
    before += parts.first[parts.count];
  }
}

// A thread's neighbours from i on, and whether they are read and written at once.
struct Neighbours {
  static constexpr int kCount = Quad::kCount;
  int64_t i;
  int count;
  __device__ Neighbours(int64_t i, int64_t end)
      : i(i), count(end - i < kCount ? static_cast<int>(end - i) : kCount) {}
  template <class... Pointers>
  __device__ bool whole(const Pointers*... from) const {
    return count == kCount &&
           (((reinterpret_cast<uintptr_t>(from + i) % sizeof(Quad)) == 0) && ...);
  }
  __device__ Quad load(const real* from, bool whole) const {
    if (whole) return *reinterpret_cast<const Quad*>(from + i);
    Quad x{};
    unrolled<kCount>([&](int j) {
      if (j < count) x.v[j] = from[i + j];
    });
    return x;
  }
  __device__ void store(const Quad& x, real* to, bool whole) const {
    if (whole)
      *reinterpret_cast<Quad*>(to + i) = x;
    else
      unrolled<kCount>([&](int j) {
        if (j < count) to[i + j] = x.v[j];
      });
  }
};

__global__ void gradient_squares_kernel(Parts parts, double* sums) {
  __shared__ double shared[kWarp];
  int64_t begin, end;
  const AdamWPart& part = parts.find(blockIdx.x, begin, end);
  double total = 0;
  for (int64_t i = begin + threadIdx.x * Quad::kCount; i < end; i += kThreads * Quad::kCount) {
    const Neighbours at(i, end);
    const Quad g = at.load(part.gradient, at.whole(part.gradient));
#pragma unroll
    for (const real x : g.v) total += static_cast<double>(x) * x;
  }
  total = block_sum(total, shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// noted: whether a rule was broken (core/fault.h). That is in the host's memory, far from here, so
// one thread looks.
__global__ void add_squares_kernel(const double* sums, int64_t count, const int* noted,
                                   AdamWOutcome* outcome) {
  __shared__ double shared[kWarp];
  double total = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) total += sums[i];
  total = block_sum(total, shared);
  if (threadIdx.x == 0) *outcome = {total, *noted == 0 ? 1.0 : 0.0};
}

struct Update {
  const AdamWNumbers* numbers;
  const real* loss;
  AdamWOutcome* outcome;
  real beta1, beta2, eps;
};

// The numbers of one element, with whether it decays in shrink.
__device__ __forceinline__ void update(const Update& args, const AdamWNumbers& numbers, real shrink,
                                       real g, real& mean, real& variance, real& value) {
  mean = args.beta1 * mean + (1 - args.beta1) * g;
  variance = args.beta2 * variance + (1 - args.beta2) * g * g;
  const real deviation = square_root(variance) * numbers.variance_correction + args.eps;
  value = shrink * value - numbers.step_size * mean / deviation;
}

__global__ void adamw_update_kernel(Parts parts, Update args) {
  const AdamWNumbers numbers = *args.numbers;
  const double norm = ::sqrt(args.outcome->squares), factor = clip_factor(norm, numbers.clip);
  // Whoever reads what block 0 has written already finds the same.
  const bool taken = parts.count > 0 && can_be_taken(norm, factor) && args.outcome->taken != 0 &&
                     (args.loss == nullptr || isfinite(*args.loss));
  if (threadIdx.x == 0 && blockIdx.x == 0) args.outcome->taken = taken;
  if (!taken) return;
  const real scale = static_cast<real>(factor);
  int64_t begin, end;
  const AdamWPart& part = parts.find(blockIdx.x, begin, end);
  const real shrink = part.decays ? numbers.shrink : 1;
  for (int64_t i = begin + threadIdx.x * Quad::kCount; i < end; i += kThreads * Quad::kCount) {
    const Neighbours at(i, end);
    const bool whole = at.whole(part.gradient, part.mean, part.variance, part.value);
    const Quad g = at.load(part.gradient, whole);
    Quad mean = at.load(part.mean, whole), variance = at.load(part.variance, whole);
    Quad value = at.load(part.value, whole);
    unrolled<Quad::kCount>([&](int j) {
      update(args, numbers, shrink, scale * g.v[j], mean.v[j], variance.v[j], value.v[j]);
    });
    at.store(mean, part.mean, whole);
    at.store(variance, part.variance, whole);
    at.store(value, part.value, whole);
  }
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const GradientSquares& args) {
  int64_t count = 0;
  for (const AdamWPart& part : args.parts) count += pieces(part.count, kPiece);
  const Storage sums(cuda.context, count * int64_t{sizeof(double)});
  auto* const out = static_cast<double*>(sums.data());
  for_parts(args.parts, [&](const Parts& parts, int64_t before) {
    start(cuda, "gradient_squares", gradient_squares_kernel,
          {.blocks = parts.first[parts.count], .threads = kThreads}, parts, out + before);
  });
  start(cuda, "add_squares", add_squares_kernel, {.blocks = 1, .threads = kThreads}, out, count,
        fault_note(cuda).noted, args.outcome);
}

void run(Cuda cuda, const AdamWUpdate& args) {
  const Update update{args.numbers, args.loss, args.outcome, args.beta1, args.beta2, args.eps};
  // Without parts the outcome must still say that nothing was taken.
  if (args.parts.empty()) start(cuda, "adamw_update", adamw_update_kernel, {1, 1}, Parts{}, update);
  for_parts(args.parts, [&](const Parts& parts, int64_t) {
    start(cuda, "adamw_update", adamw_update_kernel,
          {.blocks = parts.first[parts.count], .threads = kThreads}, parts, update);
  });
}

}  // namespace fprnn
