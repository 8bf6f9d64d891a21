// Derivation: ops/recurrent.md.
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/gate_panels.h>
#include <fprnn/ops/recurrent.h>
#include <fprnn/ops/recurrent_cells.h>

namespace fprnn::FPRNN_ISA {

namespace {

// The block's sequences, as both directions see them.
template <class Cell>
struct Block {
  const RecurrentForward& args;
  const SequenceBlock& at;

  FPRNN_INLINE int64_t token(int64_t i, int64_t t) const { return (at.begin + i) * args.T + t; }
  FPRNN_INLINE real* carries() const { return Cell::kCarriesC ? args.c : args.h; }
  // The carry before step t.
  template <class Lanes>
  FPRNN_INLINE Vec before(int64_t i, int64_t t, int64_t c, const Lanes& lanes) const {
    if (t > 0) return lanes.load(carries() + (token(i, t) - 1) * args.H + c);
    const real* const first = Cell::kCarriesC ? args.c0 : args.h0;
    return first != nullptr ? lanes.load(first + (at.begin + i) * args.H + c) : Vec{};
  }
};

// Channels c .. of row i at step t, from the sums of its gates; returns h.
template <class Cell, class Lanes>
FPRNN_INLINE Vec step_row(const Block<Cell>& block, int64_t i, int64_t t, int64_t c,
                          const Lanes& lanes, const real* sums) {
  const RecurrentForward& args = block.args;
  const int64_t token = block.token(i, t), H = args.H;
  Vec x[Cell::kGates], s[Cell::kGates];
  for (int g = 0; g < Cell::kGates; ++g) {
    x[g] = lanes.load(args.x + (token * Cell::kGates + g) * H + c);
    s[g] = load(sums + g * kLanes);
  }
  const CellStep<Vec> now = Cell::step(x, s, block.before(i, t, c, lanes));
  lanes.store(args.h + token * H + c, now.h);
  if constexpr (Cell::kCarriesC) lanes.store(args.c + token * H + c, now.carry);
  if (args.saved != nullptr)
    for (int k = 0; k < kRecurrentSaved; ++k)
      lanes.store(args.saved + (token * kRecurrentSaved + k) * H + c, now.saved[k]);
  return now.h;
}

template <class Cell>
void forward_block(const RecurrentForward& args, const SequenceBlock& at) {
  const Block<Cell> block{args, at};
  const real* const h0 = args.h0 != nullptr ? args.h0 + at.begin * args.H : nullptr;
  sweep_forward<Cell::kGates>(at, args.H, args.T, h0, args.H,
                              [&](int64_t i, int64_t t, int64_t c, auto lanes, const real* sums)
                                  FPRNN_LAMBDA { return step_row(block, i, t, c, lanes, sums); });
}

// What goes back through time; dc of the lstm alone.
enum Carried { kDh, kDc, kCarried };

// Cotangents of channels c .. of row i at step t; those of s go to lane i of `into`.
template <class Cell, class Lanes>
FPRNN_INLINE void cotangents_row(const RecurrentBackward& args, const Block<Cell>& block, int64_t i,
                                 int64_t t, int64_t c, const Lanes& lanes,
                                 const CarriedRows& carried, Vec (&into)[Cell::kGates][kLanes]) {
  const int64_t token = block.token(i, t), H = block.args.H, at = token * H + c;
  real* const dh = carried[kDh] + i * carried.stride + c;
  real* const dc = carried[kDc] + i * carried.stride + c;
  Vec saved[kRecurrentSaved];
  for (int k = 0; k < kRecurrentSaved; ++k)
    saved[k] = lanes.load(block.args.saved + (token * kRecurrentSaved + k) * H + c);
  Vec carry{}, dcarry{};
  if constexpr (Cell::kCarriesC) {
    carry = lanes.load(block.args.c + at);
    dcarry = load(dc);
    if (args.dc != nullptr) dcarry += lanes.load(args.dc + at);
  }
  const auto of = Cell::cotangents(saved, block.before(i, t, c, lanes), carry,
                                   lanes.load(args.dh + at) + load(dh), dcarry);
  for (int g = 0; g < Cell::kGates; ++g) {
    const int64_t gate = (token * Cell::kGates + g) * H + c;
    lanes.store(args.dx + gate, of.dx[g]);
    if constexpr (!Cell::kCarriesC) lanes.store(args.ds + gate, of.ds[g]);
    into[g][i] = of.ds[g];
  }
  store(dh, Cell::kCarriesC ? Vec{} : lanes.keep(of.dcarry));
  if constexpr (Cell::kCarriesC) store(dc, lanes.keep(of.dcarry));
}

template <class Cell>
void backward_block(const RecurrentBackward& args, const SequenceBlock& at) {
  constexpr int64_t G = Cell::kGates;
  const Block<Cell> block{args.forward, at};
  const int64_t H = args.forward.H;
  const CarriedRows carried(at.scratch, H);
  real* const ds = carried[kCarried];  // (G H, kLanes)
  for (real* x = at.scratch; x < ds; x += kLanes) store(x, Vec{});
  for (int64_t t = args.forward.T - 1; t >= 0; --t) {
    gate_cotangents<G>(at.rows, H, ds,
                       [&](int64_t i, int64_t c, auto lanes, auto& into) FPRNN_LAMBDA {
                         cotangents_row(args, block, i, t, c, lanes, carried, into);
                       });
    if (t == 0 && args.dh0 == nullptr) break;
    add_through_gates(at.rows, H, G, at.panels, ds, carried[kDh], carried.stride);
  }
  for (int64_t i = 0; i < at.rows; ++i)
    for (int64_t c = 0; c < H; ++c) {
      const int64_t to = (at.begin + i) * H + c, from = i * carried.stride + c;
      if (args.dh0 != nullptr) args.dh0[to] = carried[kDh][from];
      if (args.dc0 != nullptr) args.dc0[to] = carried[kDc][from];
    }
}

}  // namespace

void recurrent_forward(const RecurrentForward& args, const SequenceBlock& block) {
  if (args.cell == RecurrentCell::lstm)
    forward_block<LstmCell>(args, block);
  else
    forward_block<GruCell>(args, block);
}

void recurrent_backward(const RecurrentBackward& args, const SequenceBlock& block) {
  if (args.forward.cell == RecurrentCell::lstm)
    backward_block<LstmCell>(args, block);
  else
    backward_block<GruCell>(args, block);
}

}  // namespace fprnn::FPRNN_ISA
