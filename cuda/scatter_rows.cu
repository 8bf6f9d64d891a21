// ScatterAddRows adds rows in a fixed order without atomics, whatever the tokens are. Where the table is
// small, a warp has 32 columns of all of it in shared memory and adds a piece of the positions to
// them, in order; the pieces' tables, no larger than dout together, are then summed.
//
// Otherwise the positions are first sorted by token, stably, then a thread takes a pack of columns of 64 sorted
// positions, sums neighbours with the same token in a register and adds each sum to the token's
// row. Sums that cross into other chunks of 64 go to scratch memory and meet in a last kernel, so
// that few tokens with thousands of positions each keep the GPU as busy as many with one. dout is
// read once, at most 1/32 of that is written and read besides.
//
// The sort is by digits of 9 bits, one block of 16 warps for each, whose counts every GPU's shared memory
// holds: a warp counts the digits of its share of positions, the counts' sums over digits and warps
// say where each begins, and the warp puts its positions there in order. V < 512 needs one round.
// 10^4 positions are few, for which one block is faster than the several kernels that all
// multiprocessors would need.
#include <fprnn/core/check.h>
#include <fprnn/core/tensor.h>
#include <fprnn/core/vector.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/reduce.h>

#include <utility>

namespace fprnn {

namespace cuda {
namespace {

// A token and where it stands. Tokens outside the table are the last, `outside`.
struct alignas(8) Entry {
  uint32_t token, position;
};

// Where a round of the sort reads: tokens in the first, entries in the others.
struct FromTokens {
  const int32_t* tokens;
  uint32_t outside;
  __device__ Entry operator()(int64_t i) const {
    const int32_t token = tokens[i];
    const bool inside = token >= 0 && static_cast<uint32_t>(token) < outside;
    return {inside ? static_cast<uint32_t>(token) : outside, static_cast<uint32_t>(i)};
  }
};
struct FromEntries {
  const Entry* entries;
  __device__ Entry operator()(int64_t i) const { return entries[i]; }
};

constexpr int kDigitBits = 9, kDigits = 1 << kDigitBits;
constexpr int kSortWarps = 16, kSortThreads = kSortWarps * kWarp;
constexpr int kAtOnce = 8;  // reads of a thread on their way
static_assert(kSortThreads == kDigits, "one thread sums the counts of one digit");

// body(entry, digit, exists) for positions begin .. end of a warp, 32 neighbours at a time, all
// lanes in every call.
template <class From, class Body>
__device__ __forceinline__ void for_digits(const From& from, int64_t begin, int64_t end, int shift,
                                           const Body& body) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t i = begin; i < end; i += kAtOnce * kWarp) {
    Entry entries[kAtOnce]{};
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (i + k * kWarp + lane < end) entries[k] = from(i + k * kWarp + lane);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      body(entries[k], entries[k].token >> shift & (kDigits - 1), i + k * kWarp + lane < end);
  }
}

// counts (warps, digits) -> where each warp's entries with a digit go. Thread d has digit d.
__device__ __forceinline__ void counts_to_starts(uint32_t* counts, uint32_t* sums) {
  const int digit = threadIdx.x, warp = digit / kWarp, lane = digit % kWarp;
  uint32_t total = 0;
  for (int w = 0; w < kSortWarps; ++w) {
    const uint32_t own = counts[w * kDigits + digit];
    counts[w * kDigits + digit] = total;
    total += own;
  }
  // Sums up to and with this digit: over the warp's 32 digits, then over the warps before.
  uint32_t upto = total;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const uint32_t left = __shfl_up_sync(kAllLanes, upto, distance);
    if (lane >= distance) upto += left;
  }
  if (lane == kWarp - 1) sums[warp] = upto;
  __syncthreads();
  uint32_t start = upto - total;
  for (int w = 0; w < warp; ++w) start += sums[w];
  for (int w = 0; w < kSortWarps; ++w) counts[w * kDigits + digit] += start;
}

// One round: `to` has the entries in order of this digit, equal ones in the order they had.
template <class From>
__global__ void __launch_bounds__(kSortThreads)
    sort_round_kernel(From from, Entry* to, int64_t count, int shift) {
  extern __shared__ uint32_t counts[];  // (warps, digits)
  __shared__ uint32_t sums[kSortWarps];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t share = (count + kSortThreads - 1) / kSortThreads * kWarp;
  const int64_t begin = warp * share, end = begin + share < count ? begin + share : count;
  uint32_t* own = counts + warp * kDigits;
  for (int i = lane; i < kDigits; i += kWarp) own[i] = 0;
  __syncwarp();
  for_digits(from, begin, end, shift, [&](const Entry&, uint32_t digit, bool exists) {
    if (exists) atomicAdd(own + digit, 1u);
  });
  __syncthreads();
  counts_to_starts(counts, sums);
  __syncthreads();
  for_digits(from, begin, end, shift, [&](const Entry& entry, uint32_t digit, bool exists) {
    const unsigned peers = __match_any_sync(kAllLanes, exists ? digit : kDigits);
    const int before = __popc(peers & ((1u << lane) - 1));
    const uint32_t start = exists ? own[digit] : 0;
    __syncwarp();
    if (exists && before == 0) own[digit] = start + __popc(peers);
    __syncwarp();
    if (exists) to[start + before] = entry;
  });
}

constexpr int64_t kChunk = 64;  // sorted positions of a thread
constexpr int kRowsAtOnce = 16;

// Sums of each chunk's first and last token where other chunks have more of it: (chunks, D).
struct Crossing {
  real *head, *tail;
};

// i counts (chunk, packs of D). The first run of a chunk belongs to the head if it began before the
// chunk, and then also where it goes on after it; a last run that goes on is the tail.
template <int Width>
struct ScatterChunk {
  ScatterAddRows args;
  const Entry* entries;
  uint32_t outside;
  Crossing crossing;

  __device__ void operator()(int64_t i) const {
    const int64_t D = args.D / Width, chunk = i / D, column = i - chunk * D;
    const int64_t begin = chunk * kChunk, left = args.count - begin;
    const int length = left < kChunk ? left : kChunk;
    uint32_t token = entries[begin].token;
    bool crosses = begin > 0 && entries[begin - 1].token == token;
    Pack<Width> sum{};
    const auto put = [&] {
      if (token == outside) return;
      if (crosses)
        packs<Width>(crossing.head)[i] = sum;
      else
        add(token * D + column, sum);
    };
    for (int j = 0; j < length; j += kRowsAtOnce) {
      Entry at[kRowsAtOnce];
      Pack<Width> rows[kRowsAtOnce];
      unrolled<kRowsAtOnce>([&](int k) { at[k] = entries[begin + (j + k < length ? j + k : j)]; });
      unrolled<kRowsAtOnce>(
          [&](int k) { rows[k] = packs<Width>(args.dout)[at[k].position * D + column]; });
#pragma unroll
      for (int k = 0; k < kRowsAtOnce; ++k) {
        if (j + k >= length) break;
        if (at[k].token != token) {
          put();
          token = at[k].token;
          crosses = false;
          sum = {};
        }
        unrolled<Width>([&](int c) { sum.v[c] += rows[k].v[c]; });
      }
    }
    const bool goes_on = left > kChunk && entries[begin + kChunk].token == token;
    if (goes_on && !crosses)
      packs<Width>(crossing.tail)[i] = sum;
    else
      put();
  }

  // Each row is added to once, by one thread.
  __device__ void add(int64_t at, const Pack<Width>& sum) const {
    Pack<Width> row = packs<Width>(args.dtable)[at];
    unrolled<Width>([&](int c) { row.v[c] += sum.v[c]; });
    packs<Width>(args.dtable)[at] = row;
  }
};

// A chunk whose tail goes on adds to it the heads of the chunks after, as far as its token reaches.
template <int Width>
struct ScatterCrossing {
  ScatterChunk<Width> chunks;

  __device__ void operator()(int64_t i) const {
    const Entry* entries = chunks.entries;
    const int64_t D = chunks.args.D / Width, chunk = i / D, column = i - chunk * D;
    const int64_t begin = chunk * kChunk, next = begin + kChunk, count = chunks.args.count;
    if (next >= count) return;
    const uint32_t token = entries[next].token;
    if (token == chunks.outside || entries[next - 1].token != token) return;
    if (begin > 0 && entries[begin - 1].token == token) return;  // it began before this chunk
    Pack<Width> sum = packs<Width>(chunks.crossing.tail)[i];
    constexpr int kHeads = 8;
    for (int64_t first = next; first < count; first += kHeads * kChunk) {
      Pack<Width> heads[kHeads];
      bool same[kHeads];
#pragma unroll
      for (int k = 0; k < kHeads; ++k) {
        const int64_t at = first + k * kChunk;
        same[k] = at < count && entries[at].token == token;
        if (same[k]) heads[k] = packs<Width>(chunks.crossing.head)[at / kChunk * D + column];
      }
#pragma unroll
      for (int k = 0; k < kHeads; ++k) {
        if (!same[k]) return chunks.add(token * D + column, sum);
        unrolled<Width>([&](int c) { sum.v[c] += heads[k].v[c]; });
      }
    }
    chunks.add(token * D + column, sum);
  }
};

constexpr int64_t kFewTokens = 256;   // whose columns of a warp fit 32 KB, of doubles 64
constexpr int64_t kFewPiece = 64;     // positions of a warp at least
constexpr int64_t kFewPieces = 1024;  // at most: they keep a GPU busy

// shares (pieces, V, D). A lane has a column; tokens outside the table are passed over.
__global__ void __launch_bounds__(kWarp)
    scatter_few_kernel(ScatterAddRows args, int64_t piece, int64_t tiles, real* shares) {
  extern __shared__ Quad few[];
  const int lane = threadIdx.x, V = static_cast<int>(args.V);
  real* const table = reinterpret_cast<real*>(few) + lane;  // (V), a warp apart
  const int64_t number = blockIdx.x / tiles, column = blockIdx.x % tiles * kWarp + lane;
  const int64_t begin = number * piece, end = min(args.count, begin + piece);
  const bool inside = column < args.D;
  for (int v = 0; v < V; ++v) table[v * kWarp] = 0;
  for (int64_t first = begin; first < end; first += kWarp) {
    const int length = min(static_cast<int64_t>(kWarp), end - first);
    const int own = lane < length ? args.tokens[first + lane] : -1;
    real rows[kWarp];
    unrolled<kWarp>([&](int k) {
      rows[k] = inside && k < length ? args.dout[(first + k) * args.D + column] : real(0);
    });
    unrolled<kWarp>([&](int k) {
      const int token = __shfl_sync(kAllLanes, own, k);
      if (token >= 0 && token < V) table[token * kWarp] += rows[k];
    });
  }
  if (!inside) return;
  real* const to = shares + number * V * args.D + column;
#pragma unroll 4
  for (int v = 0; v < V; ++v) to[v * args.D] = table[v * kWarp];
}

void scatter_few(Cuda cuda, const ScatterAddRows& args) {
  const int64_t piece = std::max({kFewPiece, args.V, ceil_div(args.count, kFewPieces)});
  const int64_t pieces = ceil_div(args.count, piece);
  const int64_t tiles = ceil_div(args.D, kWarp), size = args.V * args.D;
  const Tensor shares = pieces > 1 ? Tensor(cuda.context, Shape{pieces, size}) : Tensor();
  start(cuda, "scatter_few", scatter_few_kernel,
        {.blocks = pieces * tiles,
         .threads = kWarp,
         .shared_bytes = static_cast<size_t>(args.V) * kWarp * sizeof(real)},
        args, piece, tiles, pieces > 1 ? shares.data() : args.dtable);
  if (pieces > 1)
    run(cuda,
        SumMiddle{
            .x = shares.data(), .y = args.dtable, .outer = 1, .middle = pieces, .inner = size});
}

template <int Width>
void scatter_chunks(Cuda cuda, const ScatterAddRows& args, const Entry* entries, uint32_t outside) {
  const int64_t chunks = ceil_div(args.count, kChunk), threads = chunks * (args.D / Width);
  const Tensor head(cuda.context, Shape{chunks, args.D}), tail(cuda.context, Shape{chunks, args.D});
  const ScatterChunk<Width> body{args, entries, outside, {head.data(), tail.data()}};
  for_each(cuda, "scatter_chunks", threads, body);
  for_each(cuda, "scatter_crossings", threads, ScatterCrossing<Width>{body});
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const ScatterAddRows& args) {
  if (args.V <= kFewTokens && args.count > 0) return scatter_few(cuda, args);
  run(cuda, Fill{.out = args.dtable, .count = args.V * args.D, .value = 0});
  if (args.count == 0 || args.D == 0) return;
  require(args.count <= UINT32_MAX, "embedding", "tokens must be fewer than 2^32", args.count);
  // No token of 31 bits reaches 2^31.
  const auto outside = static_cast<uint32_t>(std::min<int64_t>(args.V, int64_t{1} << 31));
  const IntTensor memory(cuda.context, Shape{2, args.count, 2});
  Entry* sorted = reinterpret_cast<Entry*>(memory.data());
  Entry* other = sorted + args.count;
  const Grid grid{.blocks = 1,
                  .threads = kSortThreads,
                  .shared_bytes = kSortWarps * kDigits * sizeof(uint32_t)};
  start(cuda, "sort_round", sort_round_kernel<FromTokens>, grid, FromTokens{args.tokens, outside},
        sorted, args.count, 0);
  for (int shift = kDigitBits; shift < 32 && outside >> shift != 0; shift += kDigitBits) {
    start(cuda, "sort_round", sort_round_kernel<FromEntries>, grid, FromEntries{sorted}, other,
          args.count, shift);
    std::swap(sorted, other);
  }
  with_width(args.D, quads_aligned(args.dout, args.dtable),
             [&](auto width) { scatter_chunks<width>(cuda, args, sorted, outside); });
}

}  // namespace fprnn
