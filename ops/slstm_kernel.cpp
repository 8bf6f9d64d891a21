// Derivation: ops/slstm.md.
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/gate_panels.h>
#include <fprnn/ops/slstm.h>
#include <fprnn/ops/slstm_cell.h>

namespace fprnn::FPRNN_ISA {

namespace {

constexpr int kGates = 4;
// Places in what a step saves.
enum Saved { kCell = 5, kNorm = 6 };

// The block's sequences, as both directions see them.
struct Block {
  const SlstmForward& args;
  const SequenceBlock& of;

  FPRNN_INLINE int64_t width() const { return args.H * args.d; }
  FPRNN_INLINE int64_t token(int64_t i, int64_t t) const { return (of.begin + i) * args.T + t; }
  FPRNN_INLINE int64_t channel(int64_t c) const { return of.head * args.d + c; }
  // In (B, D), (B, T, D), and for gate g in (B, T, 4 D).
  FPRNN_INLINE int64_t state(int64_t i, int64_t c) const {
    return (of.begin + i) * width() + channel(c);
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
  for (int64_t i = 0; i < block.of.rows; ++i)
    for_lanes(args.d, [&](int64_t c, auto lanes) FPRNN_LAMBDA {
      const int64_t at = block.state(i, c);
      lanes.store(args.c + at, given ? lanes.load(args.c0 + at) : Vec{});
      lanes.store(args.n + at, given ? lanes.load(args.n0 + at) : Vec{});
      lanes.store(args.m + at, given ? lanes.load(args.m0 + at) : splat(kSlstmNothing));
    });
}

// What goes back through time.
enum Carried { kDh, kDc, kDn, kDm, kCarried };

// m moves c and n together and never h: its cotangent is that of the state that is handed out.
FPRNN_INLINE void start_cotangents(const SlstmBackward& args, const Block& block,
                                   const CarriedRows& carried) {
  for (real* x = carried[kDh]; x < carried[kCarried]; x += kLanes) store(x, Vec{});
  for (int64_t i = 0; i < block.of.rows; ++i)
    for_lanes(args.forward.d, [&](int64_t c, auto lanes) FPRNN_LAMBDA {
      const int64_t at = block.state(i, c), to = i * carried.stride + c;
      Vec dc{}, dn{}, dm{};
      if (args.dc != nullptr) dc = lanes.load(args.dc + at);
      if (args.dn != nullptr) dn = lanes.load(args.dn + at);
      if (args.dm != nullptr) dm = lanes.load(args.dm + at);
      store(carried[kDc] + to, dc);
      store(carried[kDn] + to, dn);
      store(carried[kDm] + to,
            dm - dc * lanes.load(args.forward.c + at) - dn * lanes.load(args.forward.n + at));
    });
}

FPRNN_INLINE void end_cotangents(const SlstmBackward& args, const Block& block,
                                 const CarriedRows& carried) {
  if (args.dh0 == nullptr) return;
  for (int64_t i = 0; i < block.of.rows; ++i)
    for_lanes(args.forward.d, [&](int64_t c, auto lanes) FPRNN_LAMBDA {
      const int64_t at = block.state(i, c), from = i * carried.stride + c;
      const Vec dc = load(carried[kDc] + from), dn = load(carried[kDn] + from);
      lanes.store(args.dh0 + at, load(carried[kDh] + from));
      lanes.store(args.dc0 + at, dc);
      lanes.store(args.dn0 + at, dn);
      lanes.store(args.dm0 + at, load(carried[kDm] + from) + dc * lanes.load(args.forward.c0 + at) +
                                     dn * lanes.load(args.forward.n0 + at));
    });
}

// Cotangents of channels c .. of row i at step t; those of s go to lane i of `into`.
template <class Lanes>
FPRNN_INLINE void cotangents_row(const SlstmBackward& args, const Block& block, int64_t i,
                                 int64_t t, int64_t c, const Lanes& lanes,
                                 const CarriedRows& carried, Vec (&into)[kGates][kLanes]) {
  const int64_t at = i * carried.stride + c;
  Vec saved[kSlstmSaved];
  for (int k = 0; k < kSlstmSaved; ++k)
    saved[k] = lanes.load(block.saved(i, t, static_cast<Saved>(k), c));
  saved[kNorm] = lanes.keep(saved[kNorm]);
  SlstmCarried<Vec> now{lanes.load(args.dh + block.at(i, t, c)) + load(carried[kDh] + at),
                        load(carried[kDc] + at), load(carried[kDn] + at), load(carried[kDm] + at)};
  Vec of[kGates];
  slstm_cotangents(saved, block.before(i, t, kCell, c, lanes), block.before(i, t, kNorm, c, lanes),
                   now, of);
  for (int g = 0; g < kGates; ++g) {
    lanes.store(args.dx + block.gate(i, t, g, c), of[g]);
    into[g][i] = lanes.keep(of[g]);
  }
  store(carried[kDh] + at, now.dh);
  store(carried[kDc] + at, lanes.keep(now.dc));
  store(carried[kDn] + at, lanes.keep(now.dn));
  store(carried[kDm] + at, lanes.keep(now.dm));
}

}  // namespace

void slstm_forward(const SlstmForward& args, const SequenceBlock& of) {
  const Block block{args, of};
  start_states(block);
  const real* const h0 = args.h0 != nullptr ? args.h0 + block.state(0, 0) : nullptr;
  sweep_forward<kGates>(of, args.d, args.T, h0, block.width(),
                        [&](int64_t i, int64_t t, int64_t c, auto lanes, const real* sums)
                            FPRNN_LAMBDA { return step_row(block, i, t, c, lanes, sums); });
}

void slstm_backward(const SlstmBackward& args, const SequenceBlock& of) {
  const Block block{args.forward, of};
  const int64_t d = args.forward.d;
  const CarriedRows carried(of.scratch, d);
  real* const ds = carried[kCarried];  // (4 d, kLanes)
  start_cotangents(args, block, carried);
  for (int64_t t = args.forward.T - 1; t >= 0; --t) {
    gate_cotangents<kGates>(of.rows, d, ds,
                            [&](int64_t i, int64_t c, auto lanes, auto& into) FPRNN_LAMBDA {
                              cotangents_row(args, block, i, t, c, lanes, carried, into);
                            });
    if (t == 0 && args.dh0 == nullptr) break;
    add_through_gates(of.rows, d, kGates, of.panels, ds, carried[kDh], carried.stride);
  }
  end_cotangents(args, block, carried);
}

}  // namespace fprnn::FPRNN_ISA
