// The SSD scan step by step: any eigenvalues. A vector holds neighbouring channels of a head, a
// block; a state of a head is (blocks, N, kLanes) here.
#include <fprnn/ops/ssd_steps.h>
#include <fprnn/ops/states.h>

namespace fprnn::FPRNN_ISA {

void pack_channels(const real* from, real* to, int64_t D, int64_t N, real scale);
void unpack_channels(const real* from, real* to, int64_t D, int64_t N);

namespace {

constexpr int64_t kChunk = kSsdChunk;

// visit(block, lanes) for the blocks of P channels.
template <class Visit>
FPRNN_INLINE void for_blocks(int64_t P, const Visit& visit) {
  for_lanes(P, [&](int64_t p, auto lanes) FPRNN_LAMBDA { visit(p / kLanes, lanes); });
}

// Working space of a head: its steps, and for each block the vectors of a chunk.
struct Space {
  SsdSteps& steps;
  int64_t vectors;          // (blocks, kChunk)
  Vec *input, *y, *dinput;  // dt . x; the result, or its cotangent; the cotangent of input
  Vec *before, *db, *dc;    // (kChunk, kCount): the state before a step, and lanes of sums
  Vec *da, *ddt;            // (kChunk): lanes of sums
  real* state;              // (blocks, N, kLanes): S, or its cotangent

  static constexpr int kCount = 4;
  static int64_t reals(int64_t P, int64_t N) {
    const int64_t blocks = (P + kLanes - 1) / kLanes;
    return sizeof(SsdSteps) / sizeof(real) +
           (3 * blocks * kChunk + (3 * kCount + 2) * kChunk + 2 * kLanes + blocks * N) * kLanes;
  }
  Space(real* space, int64_t P)
      : steps(*reinterpret_cast<SsdSteps*>(space)),
        vectors((P + kLanes - 1) / kLanes * kChunk),
        input(reinterpret_cast<Vec*>(&steps + 1)),
        y(input + vectors),
        dinput(y + vectors),
        before(dinput + vectors),
        db(before + kCount * kChunk),
        dc(db + kCount * kChunk + kLanes),
        da(dc + kCount * kChunk + kLanes),
        ddt(da + kChunk),
        state(reinterpret_cast<real*>(ddt + kChunk)) {}
};

// A state (P, N) of memory, or null for zero, into (blocks, N, kLanes).
void load_state(const SsdHead& head, const real* from, real* to) {
  const int64_t P = head.args.P, N = head.args.N;
  if (from != nullptr)
    pack_channels(from + head.state(), to, P, N, 1);
  else
    for (int64_t i = 0; i < (P + kLanes - 1) / kLanes * kLanes * N; ++i) to[i] = 0;
}

// b and c are rows, `stride` apart.
template <int Count>
FPRNN_INLINE void forward_states(const SsdSteps& steps, const Vec* input, const real* b,
                                 const real* c, int64_t stride, int64_t count, real* s, Vec* y) {
  Pack<Count> state = load_states<Count>(s);
  for (int64_t t = 0; t < count; ++t) {
    const real a = steps.decay[t];
    const Vec in = input[t];
    Vec sum[2] = {y[t], Vec{}};
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      state.v[i] = a * state.v[i] + in * b[t * stride + i];
      sum[i % 2] += state.v[i] * c[t * stride + i];
    });
    y[t] = sum[0] + sum[1];
  }
  store_states(s, state);
}

// Recomputes the states of a chunk; dc (steps, Count) sums lanes over blocks.
template <int Count>
FPRNN_INLINE void recompute_states(const SsdSteps& steps, const Vec* input, const Vec* dy,
                                   const real* b, int64_t stride, int64_t count, const real* s,
                                   Vec* before, Vec* dc) {
  Pack<Count> state = load_states<Count>(s);
  for (int64_t t = 0; t < count; ++t) {
    const real a = steps.decay[t];
    const Vec in = input[t], dy_t = dy[t];
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      before[t * Count + i] = state.v[i];
      state.v[i] = a * state.v[i] + in * b[t * stride + i];
      dc[t * Count + i] += dy_t * state.v[i];
    });
  }
}

// z holds a_{t+1} Z_{t+1}, the cotangent of S that has come back so far.
template <int Count>
FPRNN_INLINE void backward_states(const Space& space, const Vec* input, const Vec* dy,
                                  const real* b, const real* c, int64_t stride, int64_t count,
                                  Vec* dinput, real* z) {
  Pack<Count> g = load_states<Count>(z);
  for (int64_t t = count - 1; t >= 0; --t) {
    const real a = space.steps.decay[t];
    const Vec in = input[t], dy_t = dy[t];
    Vec din = dinput[t], da = space.da[t];
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      g.v[i] += dy_t * c[t * stride + i];
      space.db[t * Count + i] += g.v[i] * in;
      din += g.v[i] * b[t * stride + i];
      da += g.v[i] * space.before[t * Count + i];
      g.v[i] *= a;
    });
    dinput[t] = din;
    space.da[t] = da;
  }
  store_states(z, g);
}

void forward_head(const SsdHead& head, const Space& space) {
  const SsdScanForward& args = head.args;
  const int64_t N = args.N, stride = args.G * N;
  const int64_t packed = (args.P + kLanes - 1) / kLanes * kLanes * N;
  load_state(head, args.h0, space.state);
  for (int64_t begin = 0; begin < args.T; begin += kChunk) {
    const int64_t end = minimum(begin + kChunk, args.T);
    load_ssd_steps(head, begin, end, space.steps);
    if (args.checkpoints != nullptr)
      __builtin_memcpy(head.checkpoint(begin / kChunk), space.state, packed * sizeof(real));
    for (int64_t t = 0; t < end - begin; ++t)
      for_blocks(args.P, [&](int64_t block, auto lanes) FPRNN_LAMBDA {
        const int64_t p = block * kLanes;
        const Vec x = lanes.load(args.x + head.at(begin + t) + p);
        space.input[block * kChunk + t] = space.steps.dt[t] * x;
        space.y[block * kChunk + t] = head.skip(p, lanes) * x;
      });
    for (int64_t block = 0; block < space.vectors / kChunk; ++block)
      for_states<8>(N, [&](auto states, int64_t n) FPRNN_LAMBDA {
        forward_states<states>(space.steps, space.input + block * kChunk,
                               args.b + head.row(begin) + n, args.c + head.row(begin) + n, stride,
                               end - begin, space.state + (block * N + n) * kLanes,
                               space.y + block * kChunk);
      });
    for (int64_t t = 0; t < end - begin; ++t)
      for_blocks(args.P, [&](int64_t block, auto lanes) FPRNN_LAMBDA {
        lanes.store(args.y + head.at(begin + t) + block * kLanes, space.y[block * kChunk + t]);
      });
  }
  unpack_channels(space.state, args.state + head.state(), args.P, N);
}

// Everything that goes through the states of a chunk.
FPRNN_INLINE void backward_chunk(const SsdHead& head, int64_t begin, int64_t count,
                                 const Space& space, const SsdShares& shares) {
  const SsdScanForward& args = head.args;
  const int64_t N = args.N, stride = args.G * N, blocks = space.vectors / kChunk;
  const real *b = args.b + head.row(begin), *c = args.c + head.row(begin);
  const real* checkpoint = head.checkpoint(begin / kChunk);
  for_states<Space::kCount>(N, [&](auto states, int64_t n) FPRNN_LAMBDA {
    for (int64_t i = 0; i < count * states.value; ++i) space.db[i] = space.dc[i] = Vec{};
    for (int64_t block = 0; block < blocks; ++block) {
      const Vec *input = space.input + block * kChunk, *dy = space.y + block * kChunk;
      const int64_t at = (block * N + n) * kLanes;
      recompute_states<states>(space.steps, input, dy, b + n, stride, count, checkpoint + at,
                               space.before, space.dc);
      backward_states<states>(space, input, dy, b + n, c + n, stride, count,
                              space.dinput + block * kChunk, space.state + at);
    }
    sum_lanes<states, true>(space.db, count, N, shares.db + begin * N + n);
    sum_lanes<states, true>(space.dc, count, N, shares.dc + begin * N + n);
  });
}

void load_backward(const SsdHead& head, const SsdScanBackward& args, int64_t begin, int64_t count,
                   const Space& space) {
  for (int64_t t = 0; t < count; ++t) {
    space.da[t] = space.ddt[t] = Vec{};
    for_blocks(head.args.P, [&](int64_t block, auto lanes) FPRNN_LAMBDA {
      const int64_t at = head.at(begin + t) + block * kLanes;
      space.input[block * kChunk + t] = space.steps.dt[t] * lanes.load(head.args.x + at);
      space.y[block * kChunk + t] = lanes.load(args.dy + at);
      space.dinput[block * kChunk + t] = Vec{};
    });
  }
}

void store_backward(const SsdHead& head, const SsdScanBackward& args, int64_t begin, int64_t count,
                    const Space& space, const SsdShares& shares) {
  real* const dskip = shares.dskip + head.h * head.args.P;
  for (int64_t t = 0; t < count; ++t)
    for_blocks(head.args.P, [&](int64_t block, auto lanes) FPRNN_LAMBDA {
      const int64_t p = block * kLanes, at = head.at(begin + t) + p;
      const Vec x = lanes.load(head.args.x + at), dy = space.y[block * kChunk + t];
      const Vec dinput = space.dinput[block * kChunk + t];
      lanes.store(args.dx + at, dinput * space.steps.dt[t] + head.skip(p, lanes) * dy);
      lanes.store(dskip + p, lanes.load(dskip + p) + dy * x);
      space.ddt[t] += dinput * x;
    });
  for (int64_t t = 0; t < count; t += kLanes) {
    const Vec da = sums(space.da + t, 1), ddt = sums(space.ddt + t, 1);
    for (int64_t i = 0; i < minimum(kLanes, count - t); ++i)
      store_ssd_step(head, args, begin + t + i, t + i, da[i] * space.steps.stretch[t + i], ddt[i],
                     space.steps, shares);
  }
}

void backward_head(const SsdHead& head, const SsdScanBackward& args, const Space& space,
                   const SsdShares& shares) {
  const int64_t T = head.args.T;
  load_state(head, args.dstate, space.state);
  for (int64_t begin = (T - 1) / kChunk * kChunk; T > 0 && begin >= 0; begin -= kChunk) {
    const int64_t count = minimum(kChunk, T - begin);
    load_ssd_steps(head, begin, begin + count, space.steps);
    load_backward(head, args, begin, count, space);
    backward_chunk(head, begin, count, space, shares);
    store_backward(head, args, begin, count, space, shares);
  }
  if (args.dh0 != nullptr)
    unpack_channels(space.state, args.dh0 + head.state(), head.args.P, head.args.N);
}

}  // namespace

int64_t ssd_recurrence_space(int64_t P, int64_t N) { return Space::reals(P, N); }

// Heads first .. last - 1, all of one group, of sequence b.
void ssd_recurrence_forward(const SsdScanForward& args, int64_t b, int64_t first, int64_t last,
                            real* space) {
  const Space parts(space, args.P);
  for (int64_t h = first; h < last; ++h) forward_head({args, b, h}, parts);
}
void ssd_recurrence_backward(const SsdScanBackward& args, int64_t b, int64_t first, int64_t last,
                             const SsdShares& shares, real* space) {
  const Space parts(space, args.forward.P);
  for (int64_t h = first; h < last; ++h) backward_head({args.forward, b, h}, args, parts, shares);
}

// (blocks, T, N) summed over blocks into rows that are `stride` apart.
void ssd_add_shares(const real* shares, int64_t blocks, int64_t T, int64_t N, real* to,
                    int64_t stride) {
  for (int64_t t = 0; t < T; ++t)
    for_lanes(N, [&](int64_t n, auto lanes) {
      Vec sum = lanes.load(shares + t * N + n);
      for (int64_t i = 1; i < blocks; ++i) sum += lanes.load(shares + (i * T + t) * N + n);
      lanes.store(to + t * stride + n, sum);
    });
}

}  // namespace fprnn::FPRNN_ISA
