// A block of at most kLanes sequences through all of time. h_{t-1} of the block stands transposed,
// (H, kLanes), which the tiles of ops/panels.h read; a panel of the recurrent weights has the G
// gates of one vector of channels, so that the elementwise part follows while its sums are in the
// first-level cache. Derivation: ops/recurrent.md.
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/gate_panels.h>
#include <fprnn/ops/recurrent.h>
#include <fprnn/ops/recurrent_cells.h>

namespace fprnn::FPRNN_ISA {

namespace {

FPRNN_INLINE int64_t gates_in(const RecurrentForward& args) {
  return args.cell == RecurrentCell::lstm ? LstmCell::kGates : GruCell::kGates;
}

FPRNN_INLINE GateWeights weights_of(const RecurrentForward& args) {
  return {args.weight, args.bias, args.H, gates_in(args), args.H};
}

// The sequences begin .. begin + rows - 1, as both directions see them.
template <class Cell>
struct Block {
  const RecurrentForward& args;
  int64_t begin, rows;

  FPRNN_INLINE int64_t token(int64_t i, int64_t t) const { return (begin + i) * args.T + t; }
  FPRNN_INLINE real* carries() const { return Cell::kCarriesC ? args.c : args.h; }
  // The carry before step t.
  template <class Lanes>
  FPRNN_INLINE Vec before(int64_t i, int64_t t, int64_t c, const Lanes& lanes) const {
    if (t > 0) return lanes.load(carries() + (token(i, t) - 1) * args.H + c);
    const real* const first = Cell::kCarriesC ? args.c0 : args.h0;
    return first != nullptr ? lanes.load(first + (begin + i) * args.H + c) : Vec{};
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
void forward_block(const Block<Cell>& block, const real* panels, real* scratch) {
  constexpr int64_t kWidth = Cell::kGates * kLanes;
  const RecurrentForward& args = block.args;
  const int64_t H = args.H;
  real* before = scratch;
  real* after = before + rounded(H, kLanes) * kLanes;
  alignas(64) real sums[kLanes * kWidth];
  if (args.h0 != nullptr) transpose_rows(args.h0 + block.begin * H, H, block.rows, H, before);
  for (int64_t t = 0; t < args.T; ++t) {
    const int64_t depth = t > 0 || args.h0 != nullptr ? H : 0;
    for_channels(H, [&](int64_t c, auto lanes, int64_t) {
      const real* const panel = panels + c / kLanes * (H + 1) * kWidth;
      multiply_panel<Cell::kGates>(block.rows, {.x = before,
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

// What goes back through time: rows of it are `stride` apart.
struct Carried {
  real* dh;  // (rows, stride)
  real* dc;  // (rows, stride); lstm alone
  int64_t stride;
};

// Cotangents of channels c .. of row i at step t; those of s go to lane i of `into`.
template <class Cell, class Lanes>
FPRNN_INLINE void cotangents_row(const RecurrentBackward& args, const Block<Cell>& block, int64_t i,
                                 int64_t t, int64_t c, const Lanes& lanes, const Carried& carried,
                                 Vec (&into)[Cell::kGates][kLanes]) {
  const int64_t token = block.token(i, t), H = block.args.H, at = token * H + c;
  real* const dh = carried.dh + i * carried.stride + c;
  real* const dc = carried.dc + i * carried.stride + c;
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
void backward_block(const RecurrentBackward& args, const Block<Cell>& block, const real* panels,
                    real* scratch) {
  const int64_t H = args.forward.H, depth = Cell::kGates * H, width = kBackColumns * kLanes;
  const int64_t stride = rounded(H, width);
  const Carried carried{scratch, scratch + kLanes * stride, stride};
  real* const ds = carried.dc + kLanes * stride;  // (G H, kLanes)
  for (int64_t i = 0; i < 2 * kLanes * stride; i += kLanes) store(scratch + i, Vec{});
  for (int64_t t = args.forward.T - 1; t >= 0; --t) {
    for_channels(H, [&](int64_t c, auto lanes, int64_t channels) {
      Vec of[Cell::kGates][kLanes]{};
      for (int64_t i = 0; i < block.rows; ++i)
        cotangents_row(args, block, i, t, c, lanes, carried, of);
      for (int g = 0; g < Cell::kGates; ++g) {
        transpose(of[g]);
        for (int64_t j = 0; j < channels; ++j) store(ds + (g * H + c + j) * kLanes, of[g][j]);
      }
    });
    if (t == 0 && args.dh0 == nullptr) break;
    for (int64_t c = 0; c < H; c += width)
      multiply_panel<kBackColumns>(block.rows, {.x = ds,
                                                .panel = panels + c * depth,
                                                .depth = depth,
                                                .start = carried.dh + c,
                                                .start_stride = stride,
                                                .out = carried.dh + c,
                                                .out_stride = stride});
  }
  for (int64_t i = 0; i < block.rows; ++i)
    for (int64_t c = 0; c < H; ++c) {
      const int64_t to = (block.begin + i) * H + c;
      if (args.dh0 != nullptr) args.dh0[to] = carried.dh[i * stride + c];
      if (args.dc0 != nullptr) args.dc0[to] = carried.dc[i * stride + c];
    }
}

}  // namespace

// Reals of room: the panels of both directions, and what a block works in.
int64_t recurrent_forward_panels(const RecurrentForward& args) {
  return weights_of(args).forward_panels();
}
int64_t recurrent_backward_panels(const RecurrentForward& args) {
  return weights_of(args).backward_panels();
}
int64_t recurrent_forward_space(const RecurrentForward& args) {
  return 2 * rounded(args.H, kLanes) * kLanes;
}
int64_t recurrent_backward_space(const RecurrentForward& args) {
  return 2 * kLanes * rounded(args.H, kBackColumns * kLanes) + gates_in(args) * args.H * kLanes;
}

void pack_recurrent_forward(const RecurrentForward& args, real* to) {
  pack_forward(weights_of(args), to);
}
void pack_recurrent_backward(const RecurrentForward& args, real* to) {
  pack_backward(weights_of(args), to);
}

void recurrent_forward(const RecurrentForward& args, const real* panels, int64_t begin, int64_t end,
                       real* scratch) {
  if (args.cell == RecurrentCell::lstm)
    forward_block(Block<LstmCell>{args, begin, end - begin}, panels, scratch);
  else
    forward_block(Block<GruCell>{args, begin, end - begin}, panels, scratch);
}

void recurrent_backward(const RecurrentBackward& args, const real* panels, int64_t begin,
                        int64_t end, real* scratch) {
  if (args.forward.cell == RecurrentCell::lstm)
    backward_block(args, Block<LstmCell>{args.forward, begin, end - begin}, panels, scratch);
  else
    backward_block(args, Block<GruCell>{args.forward, begin, end - begin}, panels, scratch);
}

}  // namespace fprnn::FPRNN_ISA
