// A vector holds neighbouring channels; the N states of those channels are N vectors beside each
// other. A block is one vector of channels, and whatever is (D, N) in a contract is (blocks, N,
// kLanes) here.
#include <fprnn/ops/selective_scan.h>
#include <fprnn/ops/states.h>

#include <type_traits>

namespace fprnn::FPRNN_ISA {

int64_t vector_lanes() { return kLanes; }

// (D, N) -> (blocks, N, kLanes), scaled; lanes beyond D are zero. And back, into rows of D.
void pack_channels(const real* from, real* to, int64_t D, int64_t N, real scale) {
  for (int64_t d = 0; d < D; d += kLanes)
    for (int64_t n = 0; n < N; n += kLanes) {
      const int64_t channels = minimum(kLanes, D - d), states = minimum(kLanes, N - n);
      Vec x[kLanes]{};
      for (int64_t i = 0; i < channels; ++i)
        x[i] = load_partial(from + (d + i) * N + n, states) * scale;
      transpose(x);
      for (int64_t j = 0; j < states; ++j) store(to + d * N + (n + j) * kLanes, x[j]);
    }
}
void unpack_channels(const real* from, real* to, int64_t D, int64_t N) {
  for (int64_t d = 0; d < D; d += kLanes)
    for (int64_t n = 0; n < N; n += kLanes) {
      const int64_t channels = minimum(kLanes, D - d), states = minimum(kLanes, N - n);
      Vec x[kLanes]{};
      for (int64_t j = 0; j < states; ++j) x[j] = load(from + d * N + (n + j) * kLanes);
      transpose(x);
      for (int64_t i = 0; i < channels; ++i) store_partial(to + (d + i) * N + n, x[i], states);
    }
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
  real keep(int64_t t) const { return args.keep != nullptr ? args.keep[b * args.T + t] : 1; }

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

// One more than a chunk has: arrays a power of two apart would share a few lines of the cache.
constexpr int64_t kSteps = kChunk + 1;

// One block's steps of a chunk: what the passes over its states read and add to. kChunk is a
// multiple of kPack.
struct Steps {
  Vec dt[kSteps];         // step sizes
  Vec slope[kSteps];      // of softplus
  Vec input[kSteps];      // dt . u
  Vec y[kSteps];          // forward: the result so far; backward: its cotangent
  Vec dinput[kSteps];     // cotangent of input
  Vec dexponent[kSteps];  // sum over n of decay_n times the cotangent of dt decay_n ln 2
  real keep[kChunk];      // of the state before each step
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
    steps.keep[t - begin + i] = at.keep(minimum(t + i, end - 1));
    steps.input[t - begin + i] = dt.v[i] * u.v[i];
    if constexpr (WithSlope)
      steps.slope[t - begin + i] = slope.v[i];
    else
      steps.y[t - begin + i] = at.per_channel(args.skip) * u.v[i];
  });
}

// Passes over a chunk take so many states at a time.
constexpr int kCount = 4;

// What is left of the states after step t.
template <bool Negative, int Count>
FPRNN_INLINE Pack<Count> decay_factors(const Steps& steps, int64_t t, const Pack<Count>& rate) {
  const Vec dt = steps.dt[t];
  Pack<Count> a = exp2_decay(each([dt](Vec x) { return dt * x; }, rate));
  if constexpr (Negative) a = each([](Vec x) { return 2 * x - 1; }, a);
  const real keep = steps.keep[t];
  if (keep == 1) [[likely]]
    return a;
  return each([keep](Vec x) { return keep * x; }, a);
}

// Memory to be asked for while a chunk is worked on, a row a step: what the next chunk will read,
// or this one write. Rows have those of other channels between them, and come in bursts: the
// hardware does not foresee it.
struct Ahead {
  const real* rows;
  int64_t stride;
  FPRNN_INLINE void fetch(int64_t t) const { __builtin_prefetch(rows + t * stride); }
};

// States n .. n + Count - 1 through the steps of a chunk; b and c are its rows (steps, N).
template <int Count, bool Negative>
FPRNN_INLINE void forward_states(const real* decay, const real* b, const real* c, int64_t N,
                                 int64_t count, const Ahead& ahead, Steps& steps, real* h) {
  const Pack<Count> rate = load_states<Count>(decay);
  Pack<Count> state = load_states<Count>(h);
  for (int64_t t = 0; t < count; ++t) {
    ahead.fetch(t);
    const Pack<Count> a = decay_factors<Negative>(steps, t, rate);
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

// What a state went through in a step: its decay factor, and what its cotangent is multiplied with
// for that of the exponent. That is what was kept of it, a_t H_{t-1}, unless eigenvalues may be
// negative.
struct Cell {
  Vec a, kept;
};

// Recomputes the states of a chunk. dc (steps, Count) sums lanes over all blocks of a group.
template <int Count, bool Negative>
FPRNN_INLINE void recompute_states(const real* checkpoint, const real* decay, const real* b,
                                   int64_t N, int64_t count, const Ahead& ahead, const Steps& steps,
                                   Cell* cells, Vec* dc) {
  const Pack<Count> rate = load_states<Count>(decay);
  Pack<Count> state = load_states<Count>(checkpoint);
  for (int64_t t = 0; t < count; ++t) {
    ahead.fetch(t);
    const Pack<Count> a = decay_factors<Negative>(steps, t, rate);
    const Vec input = steps.input[t], dy = steps.y[t];
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      const Vec kept = a.v[i] * state.v[i];
      // The slope of 2 e - 1 in the exponent is 2 e: it is one more than the factor.
      cells[t * Count + i] = {a.v[i], Negative ? kept + steps.keep[t] * state.v[i] : kept};
      state.v[i] = kept + input * b[t * N + i];
      dc[t * Count + i] += dy * state.v[i];
    });
  }
}

// carried holds a_{t+1} g_{t+1}, the cotangent of H that has come back so far; da_sum that of A so
// far; db is like dc.
template <int Count>
FPRNN_INLINE void backward_states(const real* decay, const real* b, const real* c, int64_t N,
                                  int64_t count, const Ahead& ahead, Steps& steps,
                                  const Cell* cells, Vec* db, real* carried, real* da_sum) {
  const Pack<Count> rate = load_states<Count>(decay);
  Pack<Count> g = load_states<Count>(carried), da = load_states<Count>(da_sum);
  for (int64_t t = count - 1; t >= 0; --t) {
    ahead.fetch(t);
    const Vec dt = steps.dt[t], input = steps.input[t], dy = steps.y[t];
    Vec dinput = steps.dinput[t], dexponent = steps.dexponent[t];
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      const Cell& cell = cells[t * Count + i];
      g.v[i] += dy * c[t * N + i];
      db[t * Count + i] += g.v[i] * input;
      dinput += g.v[i] * b[t * N + i];
      const Vec through = g.v[i] * cell.kept;
      dexponent += through * rate.v[i];
      da.v[i] += through * dt;
      g.v[i] *= cell.a;
    });
    steps.dinput[t] = dinput;
    steps.dexponent[t] = dexponent;
  }
  store_states(carried, g);
  store_states(da_sum, da);
}

template <class Lanes>
FPRNN_INLINE void load_backward_steps(const Block<Lanes>& at, const real* dy, int64_t begin,
                                      int64_t end, Steps& steps) {
  for (int64_t t = begin; t < end; t += kPack) {
    load_steps<true>(at, t, begin, end, steps);
    repeat<kPack>([&](int i) FPRNN_LAMBDA {
      steps.y[t - begin + i] = at.lanes.load(dy + at.at(minimum(t + i, end - 1)));
      steps.dinput[t - begin + i] = steps.dexponent[t - begin + i] = Vec{};
    });
  }
}

// dskip and dbias are the block's sums so far, (kLanes).
template <class Lanes>
FPRNN_INLINE void store_backward_steps(const Block<Lanes>& at, const SelectiveScanBackward& args,
                                       int64_t begin, int64_t end, const Steps& steps, real* dskip,
                                       real* dbias) {
  const Vec skip = at.per_channel(at.args.skip);
  Vec dskip_sum = load(dskip), dbias_sum = load(dbias);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t i = t - begin;
    const Vec u = at.lanes.load(at.args.u + at.at(t)), dy = steps.y[i];
    const Vec ddelta = (steps.dexponent[i] * kLn2 + steps.dinput[i] * u) * steps.slope[i];
    at.lanes.store(args.du + at.at(t), steps.dinput[i] * steps.dt[i] + skip * dy);
    at.lanes.store(args.ddelta + at.at(t), ddelta);
    dskip_sum += dy * u;
    dbias_sum += ddelta;
  }
  store(dskip, dskip_sum);
  store(dbias, dbias_sum);
}

// visit(Block) for each of some neighbouring blocks of a sequence: with whole vectors, and with the
// lanes that are left in the last.
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

// Working space of the two functions below, one part behind the other.
struct Scratch {
  Steps& steps;
  Cell* cells;  // (kChunk, kCount)
  Vec *db,
      *dc;  // lanes of their sums over the group, (N, kChunk); and what sum_lanes reads past them
  real* state;  // (blocks of the group, N, kLanes): H, or its cotangent

  static int64_t shares(int64_t N) { return N * kChunk + kLanes; }
  Scratch(real* space, int64_t N)
      : steps(*reinterpret_cast<Steps*>(space)),
        cells(reinterpret_cast<Cell*>(&steps + 1)),
        db(reinterpret_cast<Vec*>(cells + kChunk * kCount)),
        dc(db + shares(N)),
        state(reinterpret_cast<real*>(dc + shares(N))) {}
};

}  // namespace

// Reals of Scratch, for a group of that many blocks.
int64_t selective_scan_scratch(int64_t N, int64_t blocks) {
  const int64_t vectors = (sizeof(Steps) + sizeof(Cell) * kChunk * kCount) / sizeof(Vec) +
                          2 * Scratch::shares(N) + blocks * N;
  return vectors * kLanes;
}

// Blocks first .. last - 1 of sequence b.
void selective_scan_forward(const SelectiveScanForward& args, const real* decay, int64_t b,
                            int64_t first, int64_t last, real* space) {
  const int64_t N = args.N, state = N * kLanes;  // reals of one block's H
  const Scratch scratch(space, N);
  Steps& steps = scratch.steps;
  const auto h = [&](int64_t block) { return scratch.state + (block - first) * state; };
  for_blocks(args, b, first, last, [&](const auto& at) { at.load_state(args.h0, h(at.block)); });
  for (int64_t begin = 0; begin < args.T; begin += kChunk) {
    const int64_t end = minimum(begin + kChunk, args.T);
    for_blocks(args, b, first, last, [&](const auto& at) FPRNN_LAMBDA {
      for (int64_t t = begin; t < end; t += kPack) load_steps<false>(at, t, begin, end, steps);
      if (args.checkpoints != nullptr)
        for (int64_t i = 0; i < state; ++i) at.checkpoint(begin / kChunk)[i] = h(at.block)[i];
      const int64_t now = at.at(begin), next = at.at(end);
      const Ahead ahead[] = {
          {args.delta + next, args.D}, {args.u + next, args.D}, {args.y + now, args.D}};
      for_states<kCount>(N, [&](auto states, int64_t n) FPRNN_LAMBDA {
        either(args.negative, [&](auto negative) FPRNN_LAMBDA {
          forward_states<states, negative>(decay + at.block * state + n * kLanes,
                                           at.b_row(begin) + n, at.c_row(begin) + n, N, end - begin,
                                           ahead[n / kCount % 3], steps, h(at.block) + n * kLanes);
        });
      });
      for (int64_t t = begin; t < end; ++t) at.lanes.store(args.y + at.at(t), steps.y[t - begin]);
    });
  }
  for_blocks(args, b, first, last,
             [&](const auto& at) { at.store_state(h(at.block), args.state); });
}

// Blocks first .. last - 1 of sequence b: everything but the sums over groups and sequences. db and
// dc (T, N) are these blocks' share; da (blocks, N, lanes), dskip and dbias (blocks, lanes) this
// sequence's.
void selective_scan_backward(const SelectiveScanBackward& args, const real* decay, int64_t b,
                             int64_t first, int64_t last, real* db, real* dc, real* da, real* dskip,
                             real* dbias, real* space) {
  const SelectiveScanForward& in = args.forward;
  const int64_t N = in.N, state = N * kLanes;
  const Scratch scratch(space, N);
  const auto g = [&](int64_t block) { return scratch.state + (block - first) * state; };
  for_blocks(in, b, first, last, [&](const auto& at) { at.load_state(args.dstate, g(at.block)); });
  for (int64_t i = first * state; i < last * state; ++i) da[i] = 0;
  for (int64_t i = first * kLanes; i < last * kLanes; ++i) dskip[i] = dbias[i] = 0;

  const int64_t chunks = (in.T + kChunk - 1) / kChunk;
  for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    const int64_t begin = chunk * kChunk, end = minimum(begin + kChunk, in.T), count = end - begin;
    for (int64_t j = 0; j < count * N; ++j) scratch.db[j] = scratch.dc[j] = Vec{};
    for_blocks(in, b, first, last, [&](const auto& at) FPRNN_LAMBDA {
      load_backward_steps(at, args.dy, begin, end, scratch.steps);
      // Before the first chunk of this sequence comes the last of the next.
      const int64_t before = (chunk > 0 ? chunk : 2 * chunks) - 1;
      const int64_t now = at.at(begin),
                    next = at.at(chunk > 0 ? before * kChunk : in.T + (chunks - 1) * kChunk);
      const Ahead reads[] = {{in.delta + next, in.D},
                             {in.u + next, in.D},
                             {args.dy + next, in.D},
                             {at.checkpoint(before), kLanes}};
      const Ahead writes[] = {{args.du + now, in.D}, {args.ddelta + now, in.D}};
      for_states<kCount>(N, [&](auto states, int64_t n) FPRNN_LAMBDA {
        const real* rate = decay + at.block * state + n * kLanes;
        either(in.negative, [&](auto negative) FPRNN_LAMBDA {
          recompute_states<states, negative>(at.checkpoint(chunk) + n * kLanes, rate,
                                             at.b_row(begin) + n, N, count, reads[n / kCount % 4],
                                             scratch.steps, scratch.cells, scratch.dc + n * count);
        });
        backward_states<states>(rate, at.b_row(begin) + n, at.c_row(begin) + n, N, count,
                                writes[n / kCount % 2], scratch.steps, scratch.cells,
                                scratch.db + n * count, g(at.block) + n * kLanes,
                                da + at.block * state + n * kLanes);
      });
      store_backward_steps(at, args, begin, end, scratch.steps, dskip + at.block * kLanes,
                           dbias + at.block * kLanes);
    });
    for_states<kCount>(N, [&](auto states, int64_t n) {
      sum_lanes<states, false>(scratch.db + n * count, count, N, db + begin * N + n);
      sum_lanes<states, false>(scratch.dc + n * count, count, N, dc + begin * N + n);
    });
  }
  if (args.dh0 != nullptr)
    for_blocks(in, b, first, last, [&](const auto& at) { at.store_state(g(at.block), args.dh0); });
}

}  // namespace fprnn::FPRNN_ISA
