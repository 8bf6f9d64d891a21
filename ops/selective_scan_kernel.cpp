// A vector holds neighbouring channels; the N states of those channels are N vectors beside each other. A
// block is one vector of channels, and whatever is (D, N) in a contract is (blocks, N, kLanes)
// here.
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/selective_scan.h>

#include <type_traits>

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

  // One block of a state (B, D, N), or null for zero, into h (N, kLanes) and back.
  void load_state(const real* from, real* h) const {
    if (from == nullptr)
      for (int64_t i = 0; i < args.N * kLanes; ++i) h[i] = 0;
    else
      pack_channels(from + (b * args.D + channel()) * args.N, h,
                    minimum(kLanes, args.D - channel()), args.N, 1);
  }
  void store_state(const real* h, real* to) const {
    unpack_channels(h, to + (b * args.D + channel()) * args.N, minimum(kLanes, args.D - channel()),
                    args.N);
  }
  // Checkpoints keep the packed form: (B, chunks, blocks, N, kLanes).
  real* checkpoint(int64_t chunk) const {
    const int64_t chunks = (args.T + kChunk - 1) / kChunk;
    const int64_t blocks = (args.D + kLanes - 1) / kLanes;
    return args.checkpoints + ((b * chunks + chunk) * blocks + block) * args.N * kLanes;
  }
};

// One more than a chunk has: arrays a power of two apart would share the same few lines of the cache.
constexpr int64_t kSteps = kChunk + 1;

// One block's steps of a chunk: what the passes over its states read and add to.
struct Steps {            // kChunk is a multiple of kPack
  Vec dt[kSteps];         // step sizes
  Vec slope[kSteps];      // of softplus
  Vec input[kSteps];      // dt . u
  Vec y[kSteps];          // forward: the result so far; backward: its cotangent
  Vec dinput[kSteps];     // cotangent of input
  Vec dexponent[kSteps];  // sum over n of decay_n times the cotangent of dt decay_n ln 2
};

// Four steps from t on; past the end the last one is repeated into room that nobody reads.
template <bool WithSlope, class Lanes>
FPRNN_INLINE void load_steps(const Block<Lanes>& at, int64_t t, int64_t begin, int64_t end,
                             Steps& steps) {
  const SelectiveScanForward& args = at.args;
  const Vec bias = at.per_channel(args.delta_bias);
  Pack<kPack> raw, u;
  repeat<kPack>([&](int i) FPRNN_LAMBDA {
    const int64_t row = at.at(minimum(t + i, end - 1));
    raw.v[i] = at.lanes.load(args.delta + row) + bias;
    u.v[i] = at.lanes.load(args.u + row);
  });
  Pack<kPack> dt = raw, slope = filled_like(raw, 1);
  if (args.softplus) {
    const auto softplus = softplus_with_slope(raw);
    dt = softplus.value;
    if constexpr (WithSlope) slope = softplus.slope;
  }
  repeat<kPack>([&](int i) FPRNN_LAMBDA {
    steps.dt[t - begin + i] = dt.v[i];
    steps.input[t - begin + i] = dt.v[i] * u.v[i];
    if constexpr (WithSlope)
      steps.slope[t - begin + i] = slope.v[i];
    else
      steps.y[t - begin + i] = at.per_channel(args.skip) * u.v[i];
  });
}

// Passes over a chunk take Count states at a time, in registers from step to step.
constexpr int kCount = 4;
template <class Pass>
FPRNN_INLINE void for_states(int64_t N, const Pass& pass) {
  int64_t n = 0;
  for (; n + kCount <= N; n += kCount) pass(std::integral_constant<int, kCount>(), n);
  for (; n < N; ++n) pass(std::integral_constant<int, 1>(), n);
}

template <int Count>
FPRNN_INLINE Pack<Count> decay_factors(Vec dt, const Pack<Count>& rate) {
  return exp2_normal(each([dt](Vec x) { return dt * x; }, rate));
}

template <int Count>
FPRNN_INLINE Pack<Count> load_states(const real* from) {
  Pack<Count> x;
  repeat<Count>([&](int i) FPRNN_LAMBDA { x.v[i] = load(from + i * kLanes); });
  return x;
}
template <int Count>
FPRNN_INLINE void store_states(real* to, const Pack<Count>& x) {
  repeat<Count>([&](int i) FPRNN_LAMBDA { store(to + i * kLanes, x.v[i]); });
}

// Memory to be asked for while a chunk is worked on, a row a step: what the next chunk will read, or this one
// write. Rows have those of other channels between them, and come in bursts: the hardware does not
// foresee it.
struct Ahead {
  const real* rows;
  int64_t stride;
  FPRNN_INLINE void fetch(int64_t t) const { __builtin_prefetch(rows + t * stride); }
};

// States n .. n + Count - 1 through the steps of a chunk; b and c are its rows (steps, N).
template <int Count>
FPRNN_INLINE void forward_states(const real* decay, const real* b, const real* c, int64_t N,
                                 int64_t count, const Ahead& ahead, Steps& steps, real* h) {
  const Pack<Count> rate = load_states<Count>(decay);
  Pack<Count> state = load_states<Count>(h);
  for (int64_t t = 0; t < count; ++t) {
    ahead.fetch(t);
    const Pack<Count> a = decay_factors(steps.dt[t], rate);
    const Vec input = steps.input[t];
    Vec y = steps.y[t];
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      state.v[i] = a.v[i] * state.v[i] + input * b[t * N + i];
      y += state.v[i] * c[t * N + i];
    });
    steps.y[t] = y;
  }
  store_states(h, state);
}

// What a few states of one block went through in a chunk, and the lanes of their db and dc, which all
// blocks of a group add to.
struct Cell {
  Vec a, before;  // decay factor and H_{t-1}
};
struct Shares {
  Vec db, dc;
};

template <int Count>
FPRNN_INLINE void recompute_states(const real* checkpoint, const real* decay, const real* b,
                                   int64_t N, int64_t count, const Ahead& ahead, const Steps& steps,
                                   Cell* cells) {
  const Pack<Count> rate = load_states<Count>(decay);
  Pack<Count> state = load_states<Count>(checkpoint);
  for (int64_t t = 0; t < count; ++t, cells += Count) {
    ahead.fetch(t);
    const Pack<Count> a = decay_factors(steps.dt[t], rate);
    const Vec input = steps.input[t];
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      cells[i].a = a.v[i];
      cells[i].before = state.v[i];
      state.v[i] = a.v[i] * state.v[i] + input * b[t * N + i];
    });
  }
  repeat<Count>([&](int i) FPRNN_LAMBDA { cells[i].before = state.v[i]; });  // after the last step
}

// carried holds a_{t+1} g_{t+1}, the cotangent of H that has come back so far; da_sum that of A so
// far.
template <int Count>
FPRNN_INLINE void backward_states(const real* decay, const real* b, const real* c, int64_t N,
                                  int64_t count, const Ahead& ahead, Steps& steps,
                                  const Cell* cells, Shares* shares, real* carried, real* da_sum) {
  const Pack<Count> rate = load_states<Count>(decay);
  Pack<Count> g = load_states<Count>(carried), da = load_states<Count>(da_sum), after;
  repeat<Count>([&](int i) FPRNN_LAMBDA { after.v[i] = cells[count * Count + i].before; });
  for (int64_t t = count - 1; t >= 0; --t) {
    ahead.fetch(t);
    const Vec dt = steps.dt[t], input = steps.input[t], dy = steps.y[t];
    Vec dinput = steps.dinput[t], dexponent = steps.dexponent[t];
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      const Cell& cell = cells[t * Count + i];
      Shares& share = shares[t * Count + i];
      g.v[i] += dy * c[t * N + i];
      share.dc += dy * after.v[i];
      share.db += g.v[i] * input;
      dinput += g.v[i] * b[t * N + i];
      g.v[i] *= cell.a;
      after.v[i] = cell.before;
      const Vec through = g.v[i] * after.v[i];
      dexponent += through * rate.v[i];
      da.v[i] += through * dt;
    });
    steps.dinput[t] = dinput;
    steps.dexponent[t] = dexponent;
  }
  store_states(carried, g);
  store_states(da_sum, da);
}

template <class Lanes>
FPRNN_INLINE void load_backward_steps(const Block<Lanes>& at, const real* dy, int64_t t,
                                      int64_t begin, int64_t end, Steps& steps) {
  load_steps<true>(at, t, begin, end, steps);
  repeat<kPack>([&](int i) FPRNN_LAMBDA {
    steps.y[t - begin + i] = at.lanes.load(dy + at.at(minimum(t + i, end - 1)));
    steps.dinput[t - begin + i] = steps.dexponent[t - begin + i] = Vec{};
  });
}

// dskip and dbias are the block's sums so far, (kLanes).
template <class Lanes>
FPRNN_INLINE void store_backward_step(const Block<Lanes>& at, const SelectiveScanBackward& args,
                                      int64_t t, int64_t begin, const Steps& steps, real* dskip,
                                      real* dbias) {
  const int64_t i = t - begin;
  const Vec u = at.lanes.load(at.args.u + at.at(t)), dy = steps.y[i];
  const Vec ddelta = (steps.dexponent[i] * kLn2 + steps.dinput[i] * u) * steps.slope[i];
  at.lanes.store(args.du + at.at(t),
                 steps.dinput[i] * steps.dt[i] + at.per_channel(at.args.skip) * dy);
  at.lanes.store(args.ddelta + at.at(t), ddelta);
  store(dskip, load(dskip) + dy * u);
  store(dbias, load(dbias) + ddelta);
}

// The lanes of shares (count, states) added up, into rows of db and dc that are N apart. kLanes at a time;
// those past the end hold whatever they held and are not stored.
FPRNN_INLINE void add_lanes(const Shares* shares, int64_t states, int64_t count, int64_t N,
                            real* db, real* dc) {
  constexpr int64_t kStride = sizeof(Shares) / sizeof(Vec);
  for (int64_t j = 0; j < count * states; j += kLanes) {
    const Vec b = sums(&shares[j].db, kStride), c = sums(&shares[j].dc, kStride);
    for (int64_t i = 0; i < minimum(kLanes, count * states - j); ++i) {
      const int64_t to = (j + i) / states * N + (j + i) % states;
      db[to] = b[i];
      dc[to] = c[i];
    }
  }
}

// visit(Block) for each of some neighbouring blocks of a sequence: with whole vectors, and with the
// lanes that are left in the last. Where it is called for one step after the other, memory is gone
// through in order.
template <class Visit>
FPRNN_INLINE void for_blocks(const SelectiveScanForward& args, int64_t b, int64_t first,
                             int64_t last, const Visit& visit) {
  for (int64_t block = first; block < last; ++block) {
    const int64_t count = args.D - block * kLanes;
    if (count >= kLanes)
      visit(Block<Full>{args, b, block, {}});
    else
      visit(Block<Partial>{args, b, block, {count}});
  }
}

}  // namespace

// Reals of working space of the two functions below, for a group of that many blocks.
int64_t selective_scan_scratch(int64_t N, int64_t blocks) {
  const int64_t cells = (kChunk + 1) * kCount * sizeof(Cell) + kChunk * kCount * sizeof(Shares);
  const int64_t each = sizeof(Steps) / sizeof(real) + N * kLanes;
  return cells / static_cast<int64_t>(sizeof(real)) + blocks * each;
}

// Blocks first .. last - 1 of sequence b.
void selective_scan_forward(const SelectiveScanForward& args, const real* decay, int64_t b,
                            int64_t first, int64_t last, real* scratch) {
  const int64_t N = args.N, state = N * kLanes;  // reals of one block's H
  Steps* steps = reinterpret_cast<Steps*>(scratch) - first;
  real* h = reinterpret_cast<real*>(steps + last) - first * state;
  for_blocks(args, b, first, last,
             [&](const auto& at) { at.load_state(args.h0, h + at.block * state); });
  for (int64_t begin = 0; begin < args.T; begin += kChunk) {
    const int64_t end = minimum(begin + kChunk, args.T);
    for (int64_t t = begin; t < end; t += kPack)
      for_blocks(args, b, first, last, [&](const auto& at) FPRNN_LAMBDA {
        load_steps<false>(at, t, begin, end, steps[at.block]);
      });
    for (int64_t block = first; block < last; ++block) {
      const Block<Full> at{args, b, block, {}};
      real* own = h + block * state;
      if (args.checkpoints != nullptr)
        for (int64_t i = 0; i < state; ++i) at.checkpoint(begin / kChunk)[i] = own[i];
      const int64_t now = at.at(begin), next = now + kChunk * args.D;
      const real* rows[] = {args.delta + next, args.u + next, args.y + now};
      for_states(N, [&](auto states, int64_t n) {
        forward_states<states>(decay + block * state + n * kLanes, at.b_row(begin) + n,
                               at.c_row(begin) + n, N, end - begin, {rows[n / kCount % 3], args.D},
                               steps[block], own + n * kLanes);
      });
    }
    for (int64_t t = begin; t < end; ++t)
      for_blocks(args, b, first, last, [&](const auto& at) FPRNN_LAMBDA {
        at.lanes.store(args.y + at.at(t), steps[at.block].y[t - begin]);
      });
  }
  for_blocks(args, b, first, last,
             [&](const auto& at) { at.store_state(h + at.block * state, args.state); });
}

// Blocks first .. last - 1 of sequence b: everything but the sums over groups and sequences. db and dc (T, N)
// are these blocks' share; da (blocks, N, lanes), dskip and dbias (blocks, lanes) this sequence's.
void selective_scan_backward(const SelectiveScanBackward& args, const real* decay, int64_t b,
                             int64_t first, int64_t last, real* db, real* dc, real* da, real* dskip,
                             real* dbias, real* scratch) {
  const SelectiveScanForward& in = args.forward;
  const int64_t N = in.N, state = N * kLanes;
  Cell* cells = reinterpret_cast<Cell*>(scratch);
  Shares* shares = reinterpret_cast<Shares*>(cells + (kChunk + 1) * kCount);
  Steps* steps = reinterpret_cast<Steps*>(shares + kChunk * kCount) - first;
  real* g = reinterpret_cast<real*>(steps + last) - first * state;
  for_blocks(in, b, first, last,
             [&](const auto& at) { at.load_state(args.dstate, g + at.block * state); });
  for (int64_t i = first * state; i < last * state; ++i) da[i] = 0;
  for (int64_t i = first * kLanes; i < last * kLanes; ++i) dskip[i] = dbias[i] = 0;

  for (int64_t begin = (in.T - 1) / kChunk * kChunk; begin >= 0 && in.T > 0; begin -= kChunk) {
    const int64_t end = minimum(begin + kChunk, in.T), count = end - begin;
    for (int64_t t = begin; t < end; t += kPack)
      for_blocks(in, b, first, last, [&](const auto& at) FPRNN_LAMBDA {
        load_backward_steps(at, args.dy, t, begin, end, steps[at.block]);
      });
    for_states(N, [&](auto states, int64_t n) {
      constexpr int kStates = states;
      const real* b_rows = in.b + (b * in.T + begin) * N + n;
      const real* c_rows = in.c + (b * in.T + begin) * N + n;
      for (int64_t j = 0; j < count * kStates; ++j) shares[j].db = shares[j].dc = Vec{};
      for (int64_t block = first; block < last; ++block) {
        const int64_t own = block * state + n * kLanes;
        const Block<Full> at{in, b, block, {}};
        const real* checkpoint = at.checkpoint(begin / kChunk) + n * kLanes;
        const int64_t now = at.at(begin), next = now - kChunk * in.D;
        const real* reads[] = {in.delta + next, in.u + next, args.dy + next};
        const real* writes[] = {args.du + now, args.ddelta + now};
        recompute_states<kStates>(checkpoint, decay + own, b_rows, N, count,
                                  {reads[n / kCount % 3], in.D}, steps[block], cells);
        backward_states<kStates>(decay + own, b_rows, c_rows, N, count,
                                 {writes[n / kCount % 2], in.D}, steps[block], cells, shares,
                                 g + own, da + own);
      }
      add_lanes(shares, kStates, count, N, db + begin * N + n, dc + begin * N + n);
    });
    for (int64_t t = begin; t < end; ++t)
      for_blocks(in, b, first, last, [&](const auto& at) FPRNN_LAMBDA {
        store_backward_step(at, args, t, begin, steps[at.block], dskip + at.block * kLanes,
                            dbias + at.block * kLanes);
      });
  }
  for_blocks(in, b, first, last,
             [&](const auto& at) { at.store_state(g + at.block * state, args.dh0); });
}

}  // namespace fprnn::FPRNN_ISA
