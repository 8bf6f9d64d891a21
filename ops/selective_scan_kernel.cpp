// A vector holds neighbouring channels; the N states of those channels are N vectors beside each other. A
// block is one vector of channels, and whatever is (D, N) in a contract is (blocks, N, kLanes) here.
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/selective_scan.h>

namespace fprnn::FPRNN_ISA {

int64_t vector_lanes() { return kLanes; }

// (D, N) -> (blocks, N, kLanes), scaled; lanes beyond D are zero. And back, into rows of D.
void pack_channels(const real* from, real* to, int64_t D, int64_t N, real scale) {
  for (int64_t first = 0; first < D; first += kLanes)
    for (int64_t n = 0; n < N; ++n)
      for (int64_t i = 0; i < kLanes; ++i)
        *to++ = first + i < D ? scale * from[(first + i) * N + n] : 0;
}
void unpack_channels(const real* from, real* to, int64_t D, int64_t N) {
  for (int64_t d = 0; d < D; ++d)
    for (int64_t n = 0; n < N; ++n)
      to[d * N + n] = from[(d / kLanes * N + n) * kLanes + d % kLanes];
}

namespace {

constexpr real kLog2e = static_cast<real>(1.4426950408889634);
constexpr real kLn2 = static_cast<real>(0.6931471805599453);
constexpr int64_t kChunk = kSelectiveScanChunk;

// One block of channels of one sequence: what the loops over time address.
template <class Lanes>
struct Block {
  const SelectiveScanForward& args;
  int64_t b, block;
  Lanes lanes;

  int64_t channel() const { return block * kLanes; }
  int64_t at(int64_t t) const { return (b * args.T + t) * args.D + channel(); }
  const real* b_row(int64_t t) const { return args.b + (b * args.T + t) * args.N; }
  const real* c_row(int64_t t) const { return args.c + (b * args.T + t) * args.N; }

  FPRNN_INLINE Vec per_channel(const real* from) const {
    return from != nullptr ? lanes.load(from + channel()) : Vec{};
  }
  FPRNN_INLINE Vec step_size(Vec raw) const { return args.softplus ? softplus(raw) : raw; }

  void load_state(const real* from, Vec* h) const {  // from (B, D, N) or null
    if (from == nullptr) {
      for (int64_t n = 0; n < args.N; ++n) h[n] = Vec{};
    } else {
      pack_channels(from + (b * args.D + channel()) * args.N, reinterpret_cast<real*>(h),
                    minimum(kLanes, args.D - channel()), args.N, 1);
    }
  }
  void store_state(const Vec* h, real* to) const {
    unpack_channels(reinterpret_cast<const real*>(h), to + (b * args.D + channel()) * args.N,
                    minimum(kLanes, args.D - channel()), args.N);
  }
  // Checkpoints keep the packed form: (B, chunks, blocks, N, kLanes).
  real* checkpoint(int64_t chunk) const {
    const int64_t chunks = (args.T + kChunk - 1) / kChunk;
    const int64_t blocks = (args.D + kLanes - 1) / kLanes;
    return args.checkpoints + ((b * chunks + chunk) * blocks + block) * args.N * kLanes;
  }
};

template <class Lanes>
FPRNN_INLINE void forward_block(const Block<Lanes>& at, const real* decay, Vec* h) {
  const SelectiveScanForward& args = at.args;
  const auto lanes = at.lanes;
  const int64_t N = args.N;
  const Vec bias = at.per_channel(args.delta_bias), skip = at.per_channel(args.skip);
  at.load_state(args.h0, h);
  for (int64_t t = 0; t < args.T; ++t) {
    if (args.checkpoints != nullptr && t % kChunk == 0)
      for (int64_t n = 0; n < N; ++n) store(at.checkpoint(t / kChunk) + n * kLanes, h[n]);
    // Rows of other channels lie between ours; the hardware does not foresee that.
    __builtin_prefetch(args.u + at.at(t) + 8 * args.D);
    __builtin_prefetch(args.delta + at.at(t) + 8 * args.D);
    __builtin_prefetch(args.y + at.at(t) + 8 * args.D, 1);
    const real* b = at.b_row(t);
    const real* c = at.c_row(t);
    const Vec u = lanes.load(args.u + at.at(t));
    const Vec dt = at.step_size(lanes.load(args.delta + at.at(t)) + bias);
    const Vec input = dt * u;
    Vec y = skip * u;
    for (int64_t n = 0; n < N; ++n) {
      h[n] = exp2_normal(dt * load(decay + n * kLanes)) * h[n] + input * b[n];
      y += h[n] * c[n];
    }
    lanes.store(args.y + at.at(t), y);
  }
  at.store_state(h, args.state);
}

// What one block brings along while backward goes through the chunks from last to first.
struct Carry {
  Vec* g;      // (N): a_{t+1} g_{t+1}, the cotangent of H that has come back so far
  Vec* da;     // (N)
  Vec* dskip;  // one
  Vec* dbias;  // one
};

// Working space of a chunk: the decay factors and states that forward went through.
struct Trace {
  Vec* a;                // (chunk, N)
  Vec* h;                // (chunk + 1, N)
  Vec dt[kChunk];        // step sizes
  Vec raw[kChunk];       // the argument of softplus
};

template <class Lanes>
FPRNN_INLINE void recompute(const Block<Lanes>& at, const real* decay, int64_t begin, int64_t end,
                            Trace& trace) {
  const SelectiveScanForward& args = at.args;
  const int64_t N = args.N;
  const Vec bias = at.per_channel(args.delta_bias);
  const real* start = at.checkpoint(begin / kChunk);
  for (int64_t n = 0; n < N; ++n) trace.h[n] = load(start + n * kLanes);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t i = t - begin;
    const real* b = at.b_row(t);
    const Vec raw = at.lanes.load(args.delta + at.at(t)) + bias;
    const Vec dt = at.step_size(raw);
    const Vec input = dt * at.lanes.load(args.u + at.at(t));
    trace.raw[i] = raw;
    trace.dt[i] = dt;
    for (int64_t n = 0; n < N; ++n) {
      const Vec a = exp2_normal(dt * load(decay + n * kLanes));
      trace.a[i * N + n] = a;
      trace.h[(i + 1) * N + n] = a * trace.h[i * N + n] + input * b[n];
    }
  }
}

// Steps end - 1 down to begin; adds this block's lanes of db and dc, (chunk, N) vectors each.
template <class Lanes>
FPRNN_INLINE void backward_chunk(const Block<Lanes>& at, const SelectiveScanBackward& args,
                                 const real* decay, int64_t begin, int64_t end,
                                 const Trace& trace, Carry carry, Vec* db, Vec* dc) {
  const SelectiveScanForward& in = args.forward;
  const auto lanes = at.lanes;
  const int64_t N = in.N;
  const Vec skip = at.per_channel(in.skip);
  for (int64_t t = end - 1; t >= begin; --t) {
    const int64_t i = t - begin;
    const real* b = at.b_row(t);
    const real* c = at.c_row(t);
    const Vec u = lanes.load(in.u + at.at(t)), dy = lanes.load(args.dy + at.at(t));
    const Vec dt = trace.dt[i], input = dt * u;
    Vec dinput{};     // cotangent of dt . u
    Vec dexponent{};  // sum over n of decay_n times the cotangent of dt decay_n ln 2
    for (int64_t n = 0; n < N; ++n) {
      const int64_t j = i * N + n;
      const Vec g = carry.g[n] + dy * c[n];
      dc[j] += dy * trace.h[j + N];
      db[j] += g * input;
      dinput += g * b[n];
      carry.g[n] = g * trace.a[j];
      const Vec through = carry.g[n] * trace.h[j];
      dexponent += through * load(decay + n * kLanes);
      carry.da[n] += through * dt;
    }
    Vec ddelta = dexponent * kLn2 + dinput * u;
    if (in.softplus) ddelta *= sigmoid(trace.raw[i]);
    lanes.store(args.du + at.at(t), dinput * dt + skip * dy);
    lanes.store(args.ddelta + at.at(t), ddelta);
    *carry.dskip += dy * u;
    *carry.dbias += ddelta;
  }
}

// visit(Block) with whole vectors, or with the lanes that are left in the last block.
template <class Visit>
FPRNN_INLINE void with_block(const SelectiveScanForward& args, int64_t b, int64_t block,
                             const Visit& visit) {
  const int64_t count = args.D - block * kLanes;
  if (count >= kLanes) visit(Block<Full>{args, b, block, {}});
  else visit(Block<Partial>{args, b, block, {count}});
}

}  // namespace

// scratch: N vectors.
void selective_scan_forward(const SelectiveScanForward& args, const real* decay, int64_t b,
                            int64_t block, real* scratch) {
  with_block(args, b, block, [&](const auto& at) __attribute__((always_inline)) {
    forward_block(at, decay + block * args.N * kLanes, reinterpret_cast<Vec*>(scratch));
  });
}

// Vectors of working space that selective_scan_backward needs.
int64_t selective_scan_scratch(int64_t N, int64_t blocks) {
  return (4 * kChunk + 1) * N + blocks * N;
}

// Blocks first .. last - 1 of sequence b: everything but the sums over blocks and sequences. db and dc (T, N)
// are these blocks' share; da (blocks, N, lanes), dskip and dbias (blocks, lanes) this sequence's.
void selective_scan_backward(const SelectiveScanBackward& args, const real* decay, int64_t b,
                             int64_t first, int64_t last, real* db, real* dc, real* da,
                             real* dskip, real* dbias, real* scratch) {
  const SelectiveScanForward& in = args.forward;
  const int64_t N = in.N;
  Vec* free = reinterpret_cast<Vec*>(scratch);
  const auto take = [&](int64_t count) { return (free += count) - count; };
  Trace trace{take(kChunk * N), take((kChunk + 1) * N), {}, {}};
  Vec* db_lanes = take(kChunk * N);
  Vec* dc_lanes = take(kChunk * N);
  Vec* g = take((last - first) * N);
  const auto carry_of = [&](int64_t block) __attribute__((always_inline)) {
    return Carry{g + (block - first) * N, reinterpret_cast<Vec*>(da) + block * N,
                 reinterpret_cast<Vec*>(dskip) + block, reinterpret_cast<Vec*>(dbias) + block};
  };
  for (int64_t block = first; block < last; ++block) {
    const Carry carry = carry_of(block);
    with_block(in, b, block, [&](const auto& at) { at.load_state(args.dstate, carry.g); });
    for (int64_t n = 0; n < N; ++n) carry.da[n] = Vec{};
    *carry.dskip = *carry.dbias = Vec{};
  }
  for (int64_t begin = (in.T - 1) / kChunk * kChunk; begin >= 0 && in.T > 0; begin -= kChunk) {
    const int64_t end = minimum(begin + kChunk, in.T), count = (end - begin) * N;
    for (int64_t j = 0; j < count; ++j) db_lanes[j] = dc_lanes[j] = Vec{};
    for (int64_t block = first; block < last; ++block)
      with_block(in, b, block, [&](const auto& at) __attribute__((always_inline)) {
        const real* own = decay + block * N * kLanes;
        recompute(at, own, begin, end, trace);
        backward_chunk(at, args, own, begin, end, trace, carry_of(block), db_lanes, dc_lanes);
      });
    // Lanes are added kLanes vectors at a time; those past the end are zero or stale and not stored.
    for (int64_t j = 0; j < count; j += kLanes) {
      const int64_t length = minimum(kLanes, count - j);
      store_partial(db + begin * N + j, sums(db_lanes + j), length);
      store_partial(dc + begin * N + j, sums(dc_lanes + j), length);
    }
  }
  for (int64_t block = first; block < last; ++block)
    with_block(in, b, block, [&](const auto& at) { at.store_state(carry_of(block).g, args.dh0); });
}

}  // namespace fprnn::FPRNN_ISA
