// A block of sequences, each at its own token and cell: in a round every sequence that is not at its
// end makes one cell, so that the tiles of ops/panels.h are full whoever has halted.
// Derivation: ops/act.md.
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/act_block.h>
#include <fprnn/ops/gate_panels.h>
#include <fprnn/ops/recurrent_cells.h>

namespace fprnn::FPRNN_ISA {

namespace {

static_assert(kLanes <= kActSequences);

// Of a cell: what its gradient takes, h, c of an lstm, p_n and w_n.
FPRNN_INLINE int64_t numbers_of(const ActForward& args) {
  return (kRecurrentSaved + (args.cell == RecurrentCell::lstm ? 2 : 1)) * args.H + 2;
}

// Where the numbers of this block are.
template <class Cell>
struct Places {
  const ActForward& args;
  const ActBlock& block;
  const ActRoom& room;

  FPRNN_INLINE int64_t token(const ActPlace& at) const {
    return (block.begin + at.sequence) * args.T + at.t;
  }
  FPRNN_INLINE real* saved(const ActPlace& at, int64_t cell) const {
    const int64_t round = cell - room.first;
    return room.chunks[round / room.rounds] +
           (round % room.rounds * block.sequences + at.sequence) * numbers_of(args);
  }
  FPRNN_INLINE real* h(real* saved) const { return saved + kRecurrentSaved * args.H; }
  FPRNN_INLINE real* c(real* saved) const { return saved + (kRecurrentSaved + 1) * args.H; }
  FPRNN_INLINE real* weights(real* saved) const { return saved + numbers_of(args) - 2; }
};

// The states that the cells start from -> (H, kLanes).
FPRNN_INLINE void transpose_states(const ActBlock& block, int64_t H, real* to) {
  for_channels(H, [&](int64_t c, auto lanes, int64_t) {
    Vec column[kLanes]{};
    for (int64_t i = 0; i < block.active; ++i)
      column[i] = load_or_zero(block.places[i].h, c, lanes);
    transpose(column);
    for (int64_t j = 0; j < kLanes; ++j) store(to + (c + j) * kLanes, column[j]);
  });
}

// Channels c .. of a cell, from the sums of its gates; returns h.
template <class Cell, class Lanes>
FPRNN_INLINE Vec step_row(const Places<Cell>& of, const ActPlace& at, int64_t c, const Lanes& lanes,
                          const real* sums) {
  const ActForward& args = of.args;
  const int64_t H = args.H;
  const real* const input = args.x + of.token(at) * Cell::kGates * H + c;
  Vec x[Cell::kGates], s[Cell::kGates];
  for (int g = 0; g < Cell::kGates; ++g) {
    x[g] = lanes.load(input + g * H);
    if (at.n == 1) x[g] += lanes.load(args.flag + g * H + c);
    s[g] = load(sums + g * kLanes);
  }
  const CellStep<Vec> now = Cell::step(x, s, load_or_zero(Cell::kCarriesC ? at.c : at.h, c, lanes));
  real* const saved = of.saved(at, at.cell);
  for (int k = 0; k < kRecurrentSaved; ++k) lanes.store(saved + k * H + c, now.saved[k]);
  lanes.store(of.h(saved) + c, now.h);
  if constexpr (Cell::kCarriesC) lanes.store(of.c(saved) + c, now.carry);
  return now.h;
}

// to <- to + weight x, or weight x at the first.
FPRNN_INLINE void mix(real* to, const real* x, real weight, bool first, int64_t H) {
  for_lanes(H, [&](int64_t c, auto lanes) {
    const Vec part = weight * lanes.load(x + c);
    lanes.store(to + c, first ? part : lanes.load(to + c) + part);
  });
}

// What a cell's halting probability decides; true at the sequence's end.
template <class Cell>
FPRNN_INLINE bool halted(const Places<Cell>& of, ActPlace& at, real p) {
  const ActForward& args = of.args;
  const int64_t token = of.token(at), H = args.H;
  real* const saved = of.saved(at, at.cell++);
  const bool halts = at.sum + p >= 1 - args.epsilon || at.n == args.max_steps;
  const real weight = halts ? 1 - at.sum : p;
  of.weights(saved)[0] = p;
  of.weights(saved)[1] = weight;
  at.h = args.h + token * H;
  mix(args.h + token * H, of.h(saved), weight, at.n == 1, H);
  if constexpr (Cell::kCarriesC) {
    at.c = args.c + token * H;
    mix(args.c + token * H, of.c(saved), weight, at.n == 1, H);
  }
  if (!halts) {
    at.h = of.h(saved);
    at.c = of.c(saved);
    at.sum += p;
    ++at.n;
    return false;
  }
  args.steps[token] = static_cast<int32_t>(at.n);
  args.ponder[token] = static_cast<real>(at.n) + weight;
  at.sum = 0;
  at.n = 1;
  return ++at.t == args.T;
}

template <class Cell>
void forward_round(const Places<Cell>& of, ActBlock& block, const real* panels, real* before) {
  constexpr int64_t G = Cell::kGates;
  const ActForward& args = of.args;
  const int64_t H = args.H;
  Vec logits[kLanes]{};
  transpose_states(block, H, before);
  for_gates<G>(block.active, H, panels, before, H, [&](int64_t c, auto lanes, const real* sums) {
    const Vec halt = lanes.load(args.halt_weight + c);
    for (int64_t i = 0; i < block.active; ++i)
      logits[i] += halt * step_row(of, block.places[i], c, lanes, sums + i * G * kLanes);
  });
  Vec logit{};
  for (int64_t i = 0; i < block.active; ++i) logit[i] = sum(logits[i]) + *args.halt_bias;
  const Vec p = sigmoid(logit);
  for (int64_t i = block.active - 1; i >= 0; --i)
    if (halted(of, block.places[i], p[i])) block.places[i] = block.places[--block.active];
}

template <class Cell>
void forward_block(const ActForward& args, const real* panels, ActBlock& block, const ActRoom& room,
                   real* scratch) {
  const Places<Cell> of{args, block, room};
  for (int64_t round = 0; round < room.rounds && block.active > 0; ++round)
    forward_round(of, block, panels, scratch);
}

// What goes back through time: the cotangents of the state that the cells end in, by what follows
// them, and of the token's state. Those of c are an lstm's.
enum Carried { kDh, kDc, kDsh, kDsc, kCarried };

// A cell of the round.
struct Row {
  int64_t token, number;  // number: of all cells
  real* saved;
  const real *h_before, *c_before;  // what it started from, null for zero
  real weight, dlogit;
  bool first, last;  // of its token
};

template <class Cell>
FPRNN_INLINE Row row_of(const ActBackward& args, const Places<Cell>& of, const ActPlace& at) {
  const ActForward& in = args.forward;
  const int64_t token = of.token(at), b = of.block.begin + at.sequence, H = in.H;
  Row row{.token = token,
          .number = args.offsets[b] + at.cell,
          .saved = of.saved(at, at.cell),
          .h_before = in.h0 != nullptr ? in.h0 + b * H : nullptr,
          .c_before = in.c0 != nullptr ? in.c0 + b * H : nullptr,
          .weight = 0,
          .dlogit = 0,
          .first = at.n == 1,
          .last = at.n == in.steps[token]};
  row.weight = of.weights(row.saved)[1];
  if (at.n > 1) {
    real* const saved = of.saved(at, at.cell - 1);
    row.h_before = of.h(saved);
    row.c_before = of.c(saved);
  } else if (at.t > 0) {
    row.h_before = in.h + (token - 1) * H;
    row.c_before = Cell::kCarriesC ? in.c + (token - 1) * H : nullptr;
  }
  return row;
}

// The cotangent of a state: what comes from outside and what is carried, which starts again.
FPRNN_INLINE void open_state(const real* outside, real* carried, real* total, int64_t H) {
  for_lanes(H, [&](int64_t c, auto lanes) {
    store(total + c, load_or_zero(outside, c, lanes) + load(carried + c));
    store(carried + c, Vec{});
  });
}

// The cotangents of w_n, R and the logit of p_n, of the place's cell.
template <class Cell>
FPRNN_INLINE void open_row(const ActBackward& args, const Places<Cell>& of, ActPlace& at, Row& row,
                           const CarriedRows& carried, int64_t i) {
  const int64_t H = args.forward.H, from = row.token * H, logit = Cell::kGates * H;
  real* const dsh = carried[kDsh] + i * carried.stride;
  real* const dsc = carried[kDsc] + i * carried.stride;
  if (row.last) {
    open_state(args.dh + from, carried[kDh] + i * carried.stride, dsh, H);
    if constexpr (Cell::kCarriesC)
      open_state(args.dc != nullptr ? args.dc + from : nullptr, carried[kDc] + i * carried.stride,
                 dsc, H);
  }
  Vec products{};
  for_lanes(H, [&](int64_t c, auto lanes) {
    products += load(dsh + c) * lanes.load(of.h(row.saved) + c);
    if constexpr (Cell::kCarriesC) products += load(dsc + c) * lanes.load(of.c(row.saved) + c);
  });
  const real dweight = sum(products), p = of.weights(row.saved)[0];
  real* const ds = args.ds + row.number * (logit + 1);
  if (row.first) ds[logit] = 0;
  if (row.last) {
    at.sum = dweight + (args.dponder != nullptr ? args.dponder[row.token] : 0);
    return;
  }
  row.dlogit = (dweight - at.sum) * (p * (1 - p));
  ds[2 * logit + 1] = row.dlogit;  // in the row of the cell after
}

// Channels c .. of a cell; the cotangents of s go to lane i of `into`.
template <class Cell, class Lanes>
FPRNN_INLINE void cotangents_row(const ActBackward& args, const Places<Cell>& of, const Row& row,
                                 int64_t sequence, int64_t i, int64_t c, const Lanes& lanes,
                                 const CarriedRows& carried, Vec (&into)[Cell::kGates][kLanes]) {
  constexpr int64_t G = Cell::kGates;
  const int64_t H = args.forward.H, at = i * carried.stride + c;
  Vec saved[kRecurrentSaved];
  for (int k = 0; k < kRecurrentSaved; ++k) saved[k] = lanes.load(row.saved + k * H + c);
  const Vec h_before = load_or_zero(row.h_before, c, lanes);
  const Vec dh = load(carried[kDh] + at) + row.weight * load(carried[kDsh] + at) +
                 row.dlogit * lanes.load(args.forward.halt_weight + c);
  Vec carry{}, dcarry{}, before = h_before;
  if constexpr (Cell::kCarriesC) {
    carry = lanes.load(of.c(row.saved) + c);
    dcarry = load(carried[kDc] + at) + row.weight * load(carried[kDsc] + at);
    before = load_or_zero(row.c_before, c, lanes);
  }
  const auto back = Cell::cotangents(saved, before, carry, dh, dcarry);
  for (int g = 0; g < G; ++g) {
    real* const dx = args.dx + (row.token * G + g) * H + c;
    lanes.store(dx, row.last ? back.dx[g] : lanes.load(dx) + back.dx[g]);
    real* const dflag = args.dflag + (sequence * G + g) * H + c;
    if (row.first) lanes.store(dflag, lanes.load(dflag) + back.dx[g]);
    lanes.store(args.ds + row.number * (G * H + 1) + g * H + c, back.ds[g]);
    into[g][i] = back.ds[g];
  }
  lanes.store(args.before + row.number * H + c, h_before);
  store(carried[kDh] + at, Cell::kCarriesC ? Vec{} : lanes.keep(back.dcarry));
  if constexpr (Cell::kCarriesC) store(carried[kDc] + at, lanes.keep(back.dcarry));
}

FPRNN_INLINE void copy_row(const real* from, real* to, int64_t H) {
  for_lanes(H, [&](int64_t c, auto lanes) { lanes.store(to + c, lanes.load(from + c)); });
}

// To the cell before; true at the sequence's start, where what is carried is of the first state.
template <class Cell>
FPRNN_INLINE bool went_back(const ActBackward& args, const Places<Cell>& of, ActPlace& at,
                            const CarriedRows& carried, int64_t i) {
  const ActForward& in = args.forward;
  --at.cell;
  if (at.n > 1) {
    --at.n;
    return false;
  }
  if (--at.t >= 0) {
    at.n = in.steps[of.token(at)];
    return false;
  }
  const int64_t to = (of.block.begin + at.sequence) * in.H;
  if (args.dh0 != nullptr) copy_row(carried[kDh] + i * carried.stride, args.dh0 + to, in.H);
  if (args.dc0 != nullptr) copy_row(carried[kDc] + i * carried.stride, args.dc0 + to, in.H);
  return true;
}

template <class Cell>
void backward_round(const ActBackward& args, const Places<Cell>& of, ActBlock& block,
                    const real* panels, const CarriedRows& carried) {
  constexpr int64_t G = Cell::kGates;
  const int64_t H = args.forward.H;
  real* const ds = carried[kCarried];  // (G H, kLanes)
  Row rows[kLanes];
  for (int64_t i = 0; i < block.active; ++i) {
    rows[i] = row_of(args, of, block.places[i]);
    open_row(args, of, block.places[i], rows[i], carried, i);
  }
  gate_cotangents<G>(block.active, H, ds,
                     [&](int64_t i, int64_t c, auto lanes, auto& into) FPRNN_LAMBDA {
                       cotangents_row(args, of, rows[i], block.begin + block.places[i].sequence, i,
                                      c, lanes, carried, into);
                     });
  add_through_gates(block.active, H, G, panels, ds, carried[kDh], carried.stride);
  for (int64_t i = block.active - 1; i >= 0; --i) {
    if (!went_back(args, of, block.places[i], carried, i)) continue;
    const int64_t last = --block.active;
    block.places[i] = block.places[last];
    for (int64_t each = kDh; each < kCarried; ++each)
      copy_row(carried[each] + last * carried.stride, carried[each] + i * carried.stride, H);
  }
}

template <class Cell>
void backward_block(const ActBackward& args, const real* panels, ActBlock& block,
                    const ActRoom& room, real* scratch) {
  const Places<Cell> of{args.forward, block, room};
  const CarriedRows carried(scratch, args.forward.H);
  for (real* x = scratch; x < carried[kCarried]; x += kLanes) store(x, Vec{});
  while (block.active > 0) backward_round(args, of, block, panels, carried);
}

}  // namespace

int64_t act_numbers(const ActForward& args) { return numbers_of(args); }

void act_forward(const ActForward& args, const real* panels, ActBlock& block, const ActRoom& room,
                 real* scratch) {
  if (args.cell == RecurrentCell::lstm)
    forward_block<LstmCell>(args, panels, block, room, scratch);
  else
    forward_block<GruCell>(args, panels, block, room, scratch);
}

void act_backward(const ActBackward& args, const real* panels, ActBlock& block, const ActRoom& room,
                  real* scratch) {
  if (args.forward.cell == RecurrentCell::lstm)
    backward_block<LstmCell>(args, panels, block, room, scratch);
  else
    backward_block<GruCell>(args, panels, block, room, scratch);
}

}  // namespace fprnn::FPRNN_ISA
