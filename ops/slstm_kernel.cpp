// Some sequences of one head through all of time. h_{t-1} stands transposed, (d, kLanes), which the
// tiles of ops/panels.h read; a panel of the recurrent weights has the four gates of one vector of
// channels, so that the elementwise part follows while its sums are in the first-level cache.
// Derivation: ops/slstm.md.
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/gate_panels.h>
#include <fprnn/ops/slstm.h>
#include <fprnn/ops/slstm_cell.h>

namespace fprnn::FPRNN_ISA {

namespace {

constexpr int kGates = 4;
constexpr int64_t kWidth = kGates * kLanes;
// Places in what a step saves.
enum Saved { kCell = 5, kNorm = 6 };

FPRNN_INLINE GateWeights weights_of(const SlstmForward& args, int64_t head) {
  const int64_t d = args.d;
  return {args.weight + head * kGates * d * d,
          args.bias != nullptr ? args.bias + head * d : nullptr, args.H * d, kGates, d};
}

// Sequences begin .. begin + rows - 1 of a head, as both directions see them.
struct Block {
  const SlstmForward& args;
  int64_t head, begin, rows;

  FPRNN_INLINE int64_t width() const { return args.H * args.d; }
  FPRNN_INLINE int64_t token(int64_t i, int64_t t) const { return (begin + i) * args.T + t; }
  FPRNN_INLINE int64_t channel(int64_t c) const { return head * args.d + c; }
  // In (B, D), (B, T, D), and for gate g in (B, T, 4 D).
  FPRNN_INLINE int64_t state(int64_t i, int64_t c) const {
    return (begin + i) * width() + channel(c);
  }
  FPRNN_INLINE int64_t at(int64_t i, int64_t t, int64_t c) const {
    return token(i, t) * width() + channel(c);
  }
  FPRNN_INLINE int64_t gate(int64_t i, int64_t t, int64_t g, int64_t c) const {
    return (token(i, t) * kGates + g) * width() + channel(c);
  }
  FPRNN_INLINE real* saved(int64_t i, int64_t t, Saved what, int64_t c) const {
    return args.saved + (token(i, t) * kSlstmSaved + what) * width() + channel(c);
  }
  // c or n before step t.
  template <class Lanes>
  FPRNN_INLINE Vec before(int64_t i, int64_t t, Saved what, int64_t c, const Lanes& lanes) const {
    if (t > 0) return lanes.load(saved(i, t - 1, what, c));
    if (args.h0 == nullptr) return Vec{};
    return lanes.load((what == kCell ? args.c0 : args.n0) + state(i, c));
  }
};

// Channels c .. of row i at step t, from the sums of its gates; returns h.
template <class Lanes>
FPRNN_INLINE Vec step_row(const Block& block, int64_t i, int64_t t, int64_t c, const Lanes& lanes,
                          const real* sums) {
  const SlstmForward& args = block.args;
  const int64_t state = block.state(i, c);
  Vec a[kGates];
  for (int g = 0; g < kGates; ++g)
    a[g] = lanes.load(args.x + block.gate(i, t, g, c)) + load(sums + g * kLanes);
  SlstmMemory<Vec> memory{lanes.load(args.c + state), lanes.load(args.n + state),
                          lanes.load(args.m + state)};
  Vec saved[kSlstmSaved];
  const Vec h = slstm_step(a, memory, saved);
  lanes.store(args.c + state, memory.c);
  lanes.store(args.n + state, memory.n);
  lanes.store(args.m + state, memory.m);
  lanes.store(args.h + block.at(i, t, c), h);
  if (args.saved != nullptr)
    for (int k = 0; k < kSlstmSaved; ++k)
      lanes.store(block.saved(i, t, static_cast<Saved>(k), c), saved[k]);
  return lanes.keep(h);
}

// c, n and m live where the last of them is wanted.
FPRNN_INLINE void start_states(const Block& block) {
  const SlstmForward& args = block.args;
  const bool given = args.h0 != nullptr;
  for (int64_t i = 0; i < block.rows; ++i)
    for_lanes(args.d, [&](int64_t c, auto lanes) FPRNN_LAMBDA {
      const int64_t at = block.state(i, c);
      lanes.store(args.c + at, given ? lanes.load(args.c0 + at) : Vec{});
      lanes.store(args.n + at, given ? lanes.load(args.n0 + at) : Vec{});
      lanes.store(args.m + at, given ? lanes.load(args.m0 + at) : splat(kSlstmNothing));
    });
}

// What goes back through time, one behind the other: rows of each are `stride` apart.
struct Carried {
  real *dh, *dc, *dn, *dm;
  int64_t stride;

  Carried(real* space, int64_t d) : stride(rounded(d, kBackColumns * kLanes)) {
    dh = space;
    dc = dh + kLanes * stride;
    dn = dc + kLanes * stride;
    dm = dn + kLanes * stride;
  }
  real* end() const { return dm + kLanes * stride; }
};

// m moves c and n together and never h: its cotangent is that of the state that is handed out.
FPRNN_INLINE void start_cotangents(const SlstmBackward& args, const Block& block,
                                   const Carried& carried) {
  for (int64_t i = 0; i < 4 * kLanes * carried.stride; i += kLanes) store(carried.dh + i, Vec{});
  for (int64_t i = 0; i < block.rows; ++i)
    for_lanes(args.forward.d, [&](int64_t c, auto lanes) FPRNN_LAMBDA {
      const int64_t at = block.state(i, c), to = i * carried.stride + c;
      Vec dc{}, dn{}, dm{};
      if (args.dc != nullptr) dc = lanes.load(args.dc + at);
      if (args.dn != nullptr) dn = lanes.load(args.dn + at);
      if (args.dm != nullptr) dm = lanes.load(args.dm + at);
      store(carried.dc + to, dc);
      store(carried.dn + to, dn);
      store(carried.dm + to,
            dm - dc * lanes.load(args.forward.c + at) - dn * lanes.load(args.forward.n + at));
    });
}

FPRNN_INLINE void end_cotangents(const SlstmBackward& args, const Block& block,
                                 const Carried& carried) {
  if (args.dh0 == nullptr) return;
  for (int64_t i = 0; i < block.rows; ++i)
    for_lanes(args.forward.d, [&](int64_t c, auto lanes) FPRNN_LAMBDA {
      const int64_t at = block.state(i, c), from = i * carried.stride + c;
      const Vec dc = load(carried.dc + from), dn = load(carried.dn + from);
      lanes.store(args.dh0 + at, load(carried.dh + from));
      lanes.store(args.dc0 + at, dc);
      lanes.store(args.dn0 + at, dn);
      lanes.store(args.dm0 + at, load(carried.dm + from) + dc * lanes.load(args.forward.c0 + at) +
                                     dn * lanes.load(args.forward.n0 + at));
    });
}

// Cotangents of channels c .. of row i at step t; those of s go to lane i of `into`.
template <class Lanes>
FPRNN_INLINE void cotangents_row(const SlstmBackward& args, const Block& block, int64_t i,
                                 int64_t t, int64_t c, const Lanes& lanes, const Carried& carried,
                                 Vec (&into)[kGates][kLanes]) {
  const int64_t at = i * carried.stride + c;
  Vec saved[kSlstmSaved];
  for (int k = 0; k < kSlstmSaved; ++k)
    saved[k] = lanes.load(block.saved(i, t, static_cast<Saved>(k), c));
  saved[kNorm] = lanes.keep(saved[kNorm]);
  SlstmCarried<Vec> now{lanes.load(args.dh + block.at(i, t, c)) + load(carried.dh + at),
                        load(carried.dc + at), load(carried.dn + at), load(carried.dm + at)};
  Vec of[kGates];
  slstm_cotangents(saved, block.before(i, t, kCell, c, lanes), block.before(i, t, kNorm, c, lanes),
                   now, of);
  for (int g = 0; g < kGates; ++g) {
    lanes.store(args.dx + block.gate(i, t, g, c), of[g]);
    into[g][i] = lanes.keep(of[g]);
  }
  store(carried.dh + at, now.dh);
  store(carried.dc + at, lanes.keep(now.dc));
  store(carried.dn + at, lanes.keep(now.dn));
  store(carried.dm + at, lanes.keep(now.dm));
}

}  // namespace

// Reals of room: the panels of a head in both directions, and what a block works in.
int64_t slstm_forward_panels(const SlstmForward& args) {
  return weights_of(args, 0).forward_panels();
}
int64_t slstm_backward_panels(const SlstmForward& args) {
  return weights_of(args, 0).backward_panels();
}
int64_t slstm_forward_space(const SlstmForward& args) {
  return 2 * rounded(args.d, kLanes) * kLanes;
}
int64_t slstm_backward_space(const SlstmForward& args) {
  return 4 * kLanes * rounded(args.d, kBackColumns * kLanes) + kGates * args.d * kLanes;
}
void pack_slstm_forward(const SlstmForward& args, int64_t head, real* to) {
  pack_forward(weights_of(args, head), to);
}
void pack_slstm_backward(const SlstmForward& args, int64_t head, real* to) {
  pack_backward(weights_of(args, head), to);
}

void slstm_forward(const SlstmForward& args, int64_t head, int64_t begin, int64_t end,
                   const real* panels, real* scratch) {
  const Block block{args, head, begin, end - begin};
  const int64_t d = args.d;
  real* before = scratch;
  real* after = before + rounded(d, kLanes) * kLanes;
  alignas(64) real sums[kLanes * kWidth];
  start_states(block);
  if (args.h0 != nullptr)
    transpose_rows(args.h0 + block.state(0, 0), block.width(), block.rows, d, before);
  for (int64_t t = 0; t < args.T; ++t) {
    const int64_t depth = t > 0 || args.h0 != nullptr ? d : 0;
    for_channels(d, [&](int64_t c, auto lanes, int64_t) {
      const real* const panel = panels + c / kLanes * (d + 1) * kWidth;
      multiply_panel<kGates>(block.rows, {.x = before,
                                          .panel = panel + kWidth,
                                          .depth = depth,
                                          .start = panel,
                                          .start_stride = 0,
                                          .out = sums,
                                          .out_stride = kWidth});
      Vec h[kLanes]{};
      for (int64_t i = 0; i < block.rows; ++i)
        h[i] = step_row(block, i, t, c, lanes, sums + i * kWidth);
      transpose(h);
      for (int64_t j = 0; j < kLanes; ++j) store(after + (c + j) * kLanes, h[j]);
    });
    real* const swapped = before;
    before = after;
    after = swapped;
  }
}

void slstm_backward(const SlstmBackward& args, int64_t head, int64_t begin, int64_t end,
                    const real* panels, real* scratch) {
  const Block block{args.forward, head, begin, end - begin};
  const int64_t d = args.forward.d, depth = kGates * d, width = kBackColumns * kLanes;
  const Carried carried(scratch, d);
  real* const ds = carried.end();  // (4 d, kLanes)
  start_cotangents(args, block, carried);
  for (int64_t t = args.forward.T - 1; t >= 0; --t) {
    for_channels(d, [&](int64_t c, auto lanes, int64_t channels) {
      Vec of[kGates][kLanes]{};
      for (int64_t i = 0; i < block.rows; ++i)
        cotangents_row(args, block, i, t, c, lanes, carried, of);
      for (int g = 0; g < kGates; ++g) {
        transpose(of[g]);
        for (int64_t j = 0; j < channels; ++j) store(ds + (g * d + c + j) * kLanes, of[g][j]);
      }
    });
    if (t == 0 && args.dh0 == nullptr) break;
    for (int64_t c = 0; c < d; c += width)
      multiply_panel<kBackColumns>(block.rows, {.x = ds,
                                                .panel = panels + c * depth,
                                                .depth = depth,
                                                .start = carried.dh + c,
                                                .start_stride = carried.stride,
                                                .out = carried.dh + c,
                                                .out_stride = carried.stride});
  }
  end_cotangents(args, block, carried);
}

}  // namespace fprnn::FPRNN_ISA
