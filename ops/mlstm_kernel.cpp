// The mLSTM in chunks: matrix products inside a chunk, a state from chunk to chunk; a few steps go
// one by one (mlstm.md). A unit is a head of a sequence. A matrix of steps is (count, count) with
// rows kChunk apart.
#include <fprnn/core/pack.h>
#include <fprnn/ops/chunks.h>
#include <fprnn/ops/mlstm.h>

namespace fprnn::FPRNN_ISA {

namespace {

constexpr int64_t kChunk = kMlstmChunk;
constexpr int64_t kStepByStep = 8;  // shorter sequences are

struct Head {
  const MlstmForward& args;
  int64_t b, h;

  int64_t step(int64_t t) const { return (b * args.T + t) * args.H + h; }  // in (B, T, H)
  int64_t row(int64_t t) const { return step(t) * args.d; }                // in (B, T, H, d)
  int64_t vector() const { return (b * args.H + h) * args.d; }             // in (B, H, d)
  int64_t matrix() const { return vector() * args.d; }                     // in (B, H, d, d)
  int64_t stride() const { return args.H * args.d; }                       // of rows
  real* checkpoint(int64_t chunk) const {
    const int64_t chunks = (args.T + kChunk - 1) / kChunk;
    return args.checkpoints + ((b * args.H + h) * chunks + chunk) * (args.d + 1) * args.d;
  }
  // What enters a chunk.
  bool entered(int64_t begin) const { return begin > 0 || args.c0 != nullptr; }
  const real* c(int64_t begin) const {
    return begin > 0 ? checkpoint(begin / kChunk) : args.c0 + matrix();
  }
  const real* n(int64_t begin) const {
    return begin > 0 ? checkpoint(begin / kChunk) + args.d * args.d : args.n0 + vector();
  }
  real scale() const { return 1 / square_root(static_cast<real>(args.d)); }
  real first_m() const { return args.m0 != nullptr ? args.m0[b * args.H + h] : kMlstmNothing; }
};

// Working space of a unit.
struct Space {
  int64_t d;
  // (kChunk) each.
  real* forget;  // ln F_t, at most 0: exactly 0 where the forget gate won the maximum
  real* input;   // ln I_t
  real* floor;   // exp(-m_t)
  real* m;
  real* slope;   // of ln sigmoid(f)
  real* log;     // ln of what is left at step t of what step s wrote, for all s
  real* left;    // what is left at step t of what entered
  real* row;     // cotangents of `log`, summed over s
  real* column;  // and over t
  real* read;    // of n_t . q_t
  real* dm;
  real *qk, *weights, *dweights, *dqk;  // (kChunk, kChunk)
  real *a, *b;                          // (kChunk, d)
  Product multiply;
  real* z;  // (d + 1, d): the cotangents of C and n

  static int64_t product_reals(int64_t d) { return product_space(d > kChunk ? d : kChunk); }
  static int64_t reals(int64_t d) {
    return 11 * kChunk + 4 * kChunk * kChunk + 2 * kChunk * d + product_reals(d) + (d + 1) * d;
  }
  Space(real* space, int64_t d) : d(d) {
    real** const parts[] = {&forget, &input, &floor,  &m,    &slope, &log,
                            &left,   &row,   &column, &read, &dm};
    for (real** part : parts) {
      *part = space;
      space += kChunk;
    }
    qk = space;
    weights = qk + kChunk * kChunk;
    dweights = weights + kChunk * kChunk;
    dqk = dweights + kChunk * kChunk;
    a = dqk + kChunk * kChunk;
    b = a + kChunk * d;
    multiply.space = b + kChunk * d;
    z = multiply.space + product_reals(d);
  }
};

FPRNN_INLINE real magnitude_of(real x) { return x < 0 ? -x : x; }
// y += by x.
FPRNN_INLINE void add(real* y, const real* x, int64_t count, real by) {
  for_lanes(count, [&](int64_t i, auto lanes) FPRNN_LAMBDA {
    lanes.store(y + i, lanes.load(y + i) + by * lanes.load(x + i));
  });
}
// x, or zeros for null.
FPRNN_INLINE void copy(const real* from, real* to, int64_t count) {
  for_lanes(count, [&](int64_t i, auto lanes) FPRNN_LAMBDA {
    lanes.store(to + i, from != nullptr ? lanes.load(from + i) : Vec{});
  });
}
FPRNN_INLINE void exp_all(const real* x, real* to, int64_t count, real factor) {
  for (int64_t i = 0; i < count; i += kLanes) store(to + i, exp(factor * load(x + i)));
}

// Steps begin .. begin + count - 1 of a head.
struct Part {
  const Head& head;
  const Space& space;
  int64_t begin, count;

  bool entered() const { return head.entered(begin); }
  Matrix rows(const real* x) const { return {x + head.row(begin), head.stride()}; }
  real last_left() const { return space.left[count - 1]; }

  // Everything that is made of the gates alone, from m before the first step.
  void load_gates(real m) const {
    const MlstmForward& args = head.args;
    real sum = 0;
    for (int64_t first = 0; first < count; first += kLanes) {
      Vec raw{};
      for (int64_t j = 0; j < minimum(kLanes, count - first); ++j)
        raw[j] = -args.fgate[head.step(begin + first + j)];
      const auto of = softplus_with_slope(raw);
      store(space.slope + first, of.slope);
      store(space.forget + first, -of.value);
    }
    for (int64_t t = 0; t < count; ++t) {
      const real keep = space.forget[t] + m, in = args.igate[head.step(begin + t)];
      m = keep > in ? keep : in;
      space.forget[t] = keep - m;
      space.input[t] = in - m;
      space.m[t] = m;
      space.left[t] = sum += space.forget[t];
    }
    for (int64_t t = count; t < kChunk; ++t) space.m[t] = space.left[t] = 0;
    exp_all(space.left, space.left, kChunk, 1);
    exp_all(space.m, space.floor, kChunk, -1);
  }
};

// Step t's row of `log` in the place of the one before. It is carried on and not a difference of
// sums, which would lose what large gates have pushed beyond their last bits.
// visit(s, lanes there are, exp(log)) for s <= t; masked before it is used.
template <class Visit>
FPRNN_INLINE void for_pairs(const Space& space, int64_t t, const Visit& visit) {
  for (int64_t s = 0; s < t; s += kLanes)
    store(space.log + s, load(space.log + s) + space.forget[t]);
  space.log[t] = space.input[t];
  for (int64_t s = 0; s <= t; s += kLanes) {
    const IntVec there = first_lanes(minimum(kLanes, t + 1 - s));
    visit(s, there, select(there, exp(load(space.log + s)), Vec{}));
  }
}

// What a step reads, divided; and what backward needs of it.
FPRNN_INLINE real keep_step(const Part& part, int64_t t, real read) {
  const MlstmForward& args = part.head.args;
  if (args.steps != nullptr) {
    const int64_t at = part.head.step(part.begin + t);
    args.steps[at] = part.space.m[t];
    args.steps[args.B * args.T * args.H + at] = read;
  }
  const real size = magnitude_of(read), floor = part.space.floor[t];
  return 1 / ((size < floor ? floor : size) + args.eps);
}

// h of a chunk, and the state after it in place of the one before it.
void forward_part(const Part& part, real* c, real* n) {
  const Space& space = part.space;
  const Head& head = part.head;
  const MlstmForward& args = head.args;
  const int64_t d = args.d, count = part.count;
  const bool entered = part.entered();
  real* const h = args.h + head.row(part.begin);
  const Matrix q = part.rows(args.q), k = part.rows(args.k), v = part.rows(args.v);
  const real unit = head.scale();
  space.multiply(q, transpose_of(k), space.qk, kChunk, count, count, d, false);
  for (int64_t t = 0; t < count; ++t) {
    real* const row = space.weights + t * kChunk;
    Vec total{};
    for_pairs(space, t, [&](int64_t s, IntVec there, Vec e) FPRNN_LAMBDA {
      const Vec a = select(there, load(space.qk + t * kChunk + s) * (e * unit), Vec{});
      store(row + s, a);
      total += a;
    });
    clear_after(row, t, kChunk);
    space.read[t] = sum(total);
  }
  space.multiply({space.weights, kChunk}, v, h, head.stride(), count, d, count, false);
  if (entered) {
    scale_rows(q, count, d, space.a, [&](int64_t t) { return space.left[t]; });
    space.multiply({space.a, d}, {c, d}, h, head.stride(), count, d, d, true);
    for (int64_t t = 0; t < count; ++t) space.read[t] += dot(space.a + t * d, n, d);
    scale(c, d * d, part.last_left());
  }
  for (int64_t t = 0; t < count; ++t)
    scale(h + t * head.stride(), d, keep_step(part, t, space.read[t]));
  exp_all(space.log, space.log, count, 1);
  scale_rows(k, count, d, space.a, [&](int64_t s) { return space.log[s] * unit; });
  space.multiply({space.a, d, true}, v, c, d, d, d, count, entered);
  scale(n, d, entered ? part.last_left() : 0);
  for (int64_t s = 0; s < count; ++s) add(n, space.a + s * d, d, 1);
}

// The same a step at a time, each one pass over C.
void forward_steps(const Part& part, real* c, real* n) {
  const Head& head = part.head;
  const MlstmForward& args = head.args;
  const int64_t d = args.d;
  for (int64_t t = 0; t < part.count; ++t) {
    const int64_t at = head.row(part.begin + t);
    const real *q = args.q + at, *k = args.k + at;
    const real forget = exp_of(part.space.forget[t]);
    const real write = exp_of(part.space.input[t]) * head.scale();
    scale(n, d, forget);
    add(n, k, d, write);
    const real by = keep_step(part, t, dot(n, q, d));
    for_packs(d, [&](int64_t i, auto lanes) FPRNN_LAMBDA {
      const auto v = lanes.load(args.v + at + i) * write;
      Pack<kPack> sum{};
      for (int64_t j = 0; j < d; ++j) {
        real* const row = c + j * d + i;
        const auto x = lanes.load(row) * forget + v * k[j];
        lanes.store(row, x);
        sum = sum + x * q[j];
      }
      lanes.store(args.h + at + i, sum * by);
    });
  }
}

// Of the division: the cotangents of h's numerator to `a`, of n . q to `read`, and dm's part by eps.
// The sums of a row of dlog are known from h: what makes |n . q| and h larger alike moves nothing.
void backward_division(const Part& part, const MlstmBackward& args) {
  const Space& space = part.space;
  const Head& head = part.head;
  for (int64_t t = 0; t < part.count; ++t) {
    const int64_t step = head.step(part.begin + t), at = step * args.d;
    const real read = args.steps[args.B * args.T * args.H + step], size = magnitude_of(read);
    const bool reads = !(size < space.floor[t]);
    const real by = 1 / ((reads ? size : space.floor[t]) + args.eps);
    const real moved = dot(args.dh + at, args.h + at, args.d);
    space.read[t] = !reads ? 0 : read < 0 ? moved * by : -moved * by;
    space.dm[t] = -args.eps * by * moved;
    space.row[t] = reads ? args.eps * by * moved : moved;
    space.column[t] = 0;
    for_lanes(args.d, [&](int64_t i, auto lanes) FPRNN_LAMBDA {
      lanes.store(space.a + t * args.d + i, by * lanes.load(args.dh + at + i));
    });
  }
}

// Through the weights: dq, dk and dv are set.
void backward_weights(const Part& part, const MlstmBackward& args) {
  const Space& space = part.space;
  const Head& head = part.head;
  const int64_t d = args.d, count = part.count, stride = head.stride(), at = head.row(part.begin);
  const Matrix q = part.rows(args.q), k = part.rows(args.k), v = part.rows(args.v);
  const real unit = head.scale();
  space.multiply(q, transpose_of(k), space.qk, kChunk, count, count, d, false);
  space.multiply({space.a, d}, transpose_of(v), space.dweights, kChunk, count, count, d, false);
  for (int64_t t = 0; t < count; ++t) {
    const int64_t row = t * kChunk;
    for_pairs(space, t, [&](int64_t s, IntVec there, Vec e) FPRNN_LAMBDA {
      e *= unit;
      const Vec a = select(there, load(space.qk + row + s) * e, Vec{});
      const Vec da = select(there, load(space.dweights + row + s) + space.read[t], Vec{});
      store(space.weights + row + s, a);
      store(space.dqk + row + s, da * e);
      store(space.column + s, load(space.column + s) + a * da);
    });
    clear_after(space.weights + row, t, kChunk);
    clear_after(space.dqk + row, t, kChunk);
  }
  const Matrix weights{space.weights, kChunk, true}, dqk{space.dqk, kChunk};
  space.multiply(weights, {space.a, d}, args.dv + at, stride, count, d, count, false);
  space.multiply(dqk, k, args.dq + at, stride, count, d, count, false);
  space.multiply(transpose_of(dqk), q, args.dk + at, stride, count, d, count, false);
}

// Through the state that leaves, whose cotangent is z; `log` has the last step's row.
void backward_left(const Part& part, const MlstmBackward& args) {
  const Space& space = part.space;
  const Head& head = part.head;
  const int64_t d = args.d, count = part.count, stride = head.stride(), at = head.row(part.begin);
  const real* const zeta = space.z + d * d;
  exp_all(space.log, space.log, count, 1);
  space.multiply(part.rows(args.v), {space.z, d, true}, space.b, d, count, d, d, false);
  for (int64_t s = 0; s < count; ++s) {
    const real w = space.log[s] * head.scale();
    real* const g = space.b + s * d;
    add(g, zeta, d, 1);
    const real moved = w * dot(args.k + at + s * stride, g, d);
    space.column[s] += moved;
    space.row[count - 1] += moved;
    add(args.dk + at + s * stride, g, d, w);
  }
  scale_rows(part.rows(args.k), count, d, space.b,
             [&](int64_t s) { return space.log[s] * head.scale(); });
  space.multiply({space.b, d}, {space.z, d}, args.dv + at, stride, count, d, d, true);
  if (part.entered())
    space.row[count - 1] += part.last_left() * (dot(space.z, head.c(part.begin), d * d) +
                                                dot(zeta, head.n(part.begin), d));
  scale(space.z, (d + 1) * d, part.last_left());
}

// Through the state that has entered, whose cotangent z becomes.
void backward_entered(const Part& part, const MlstmBackward& args) {
  const Space& space = part.space;
  const Head& head = part.head;
  const int64_t d = args.d, count = part.count, stride = head.stride(), at = head.row(part.begin);
  for (int64_t t = 0; t < count; ++t) {
    scale(space.a + t * d, d, space.left[t]);
    add(space.z + d * d, args.q + at + t * stride, d, space.left[t] * space.read[t]);
    add(args.dq + at + t * stride, head.n(part.begin), d, space.left[t] * space.read[t]);
  }
  space.multiply({space.a, d}, {head.c(part.begin), d, true}, args.dq + at, stride, count, d, d,
                 true);
  space.multiply({args.q + at, stride, true}, {space.a, d}, space.z, d, d, d, count, true);
}

// `log` of (t, s) is the sum of ln F over s + 1 .. t and ln I_s. m only moves the result by eps: dm
// goes back through the maxima to the gates that won them.
real backward_gates(const Part& part, const MlstmBackward& args, real dm) {
  const Space& space = part.space;
  real dforget = 0;
  for (int64_t t = part.count - 1; t >= 0; --t) {
    const bool kept = space.forget[t] >= 0;
    dforget += space.row[t] - space.column[t];
    dm += space.dm[t];
    const int64_t at = part.head.step(part.begin + t);
    args.digate[at] = space.column[t] + (kept ? 0 : dm);
    args.dfgate[at] = (dforget + (kept ? dm : 0)) * space.slope[t];
    if (!kept) dm = 0;
  }
  return dm;
}

}  // namespace

int64_t mlstm_space(int64_t d) { return Space::reals(d); }

void mlstm_forward(const MlstmForward& args, real* reals, int64_t unit) {
  const Space space(reals, args.d);
  const Head head{args, unit / args.H, unit % args.H};
  const int64_t d = args.d;
  real *c = args.c + head.matrix(), *n = args.n + head.vector(), m = head.first_m();
  copy(args.c0 != nullptr ? args.c0 + head.matrix() : nullptr, c, d * d);
  copy(args.n0 != nullptr ? args.n0 + head.vector() : nullptr, n, d);
  for (int64_t begin = 0; begin < args.T; begin += kChunk) {
    const Part part{head, space, begin, minimum(kChunk, args.T - begin)};
    if (begin > 0 && args.checkpoints != nullptr) {
      copy(c, head.checkpoint(begin / kChunk), d * d);
      copy(n, head.checkpoint(begin / kChunk) + d * d, d);
    }
    part.load_gates(m);
    if (args.T < kStepByStep)
      forward_steps(part, c, n);
    else
      forward_part(part, c, n);
    m = space.m[part.count - 1];
  }
  args.m[unit] = m;
}

void mlstm_backward(const MlstmBackward& args, real* reals, int64_t unit) {
  const Space space(reals, args.d);
  const Head head{args, unit / args.H, unit % args.H};
  const int64_t d = args.d;
  real* const zeta = space.z + d * d;
  copy(args.dc != nullptr ? args.dc + head.matrix() : nullptr, space.z, d * d);
  copy(args.dn != nullptr ? args.dn + head.vector() : nullptr, zeta, d);
  real dm = args.dm != nullptr ? args.dm[unit] : 0;
  bool left = args.dc != nullptr || args.dn != nullptr;
  if (left)
    dm -= dot(space.z, args.c + head.matrix(), d * d) + dot(zeta, args.n + head.vector(), d);
  for (int64_t begin = (args.T - 1) / kChunk * kChunk; begin >= 0 && args.T > 0; begin -= kChunk) {
    const Part part{head, space, begin, minimum(kChunk, args.T - begin)};
    part.load_gates(begin > 0 ? args.steps[head.step(begin - 1)] : head.first_m());
    backward_division(part, args);
    backward_weights(part, args);
    if (left) backward_left(part, args);
    if (part.entered()) backward_entered(part, args);
    dm = backward_gates(part, args, dm);
    left = true;
  }
  if (args.dc0 == nullptr) return;
  args.dm0[unit] =
      dm + dot(space.z, args.c0 + head.matrix(), d * d) + dot(zeta, args.n0 + head.vector(), d);
  copy(space.z, args.dc0 + head.matrix(), d * d);
  copy(zeta, args.dn0 + head.vector(), d);
}

}  // namespace fprnn::FPRNN_ISA
