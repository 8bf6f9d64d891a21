// The SSD scan in chunks: matrix products inside a chunk, a state from chunk to chunk
// (ssd_scan.md). Eigenvalues in (0, 1). A matrix of steps is (count, count) with rows kChunk apart;
// a state is (P, N).
#include <fprnn/ops/chunks.h>
#include <fprnn/ops/ssd_steps.h>

namespace fprnn::FPRNN_ISA {

namespace {

constexpr int64_t kChunk = kSsdChunk;
// ln a below this is as good as -infinity: exp of it is 0.
constexpr real kLeast = kDouble ? -800 : -110;

// Working space of a unit.
struct Space {
  SsdSteps& steps;
  real* l;                   // (kChunk): cumulative ln a
  real* column;              // (kChunk): sums over rows of the weights' cotangent
  real* dl;                  // (kChunk): the cotangent of l
  real *cb, *dcb;            // (kChunk, kChunk): C B^T and its cotangent
  real *weights, *dweights;  // (kChunk, kChunk)
  real* of_n;                // (kChunk, N)
  real* of_p;                // (kChunk, P)
  Product multiply;
  real* z;  // (heads, P, N): the cotangent of S

  static int64_t product_reals(int64_t P, int64_t N) {
    const int64_t most = P > N ? P : N;
    return product_space(most > kChunk ? most : kChunk);
  }
  static int64_t reals(int64_t P, int64_t N, int64_t heads) {
    return sizeof(SsdSteps) / sizeof(real) + 3 * kChunk + 4 * kChunk * kChunk + kChunk * (N + P) +
           product_reals(P, N) + heads * P * N;
  }
  Space(real* space, int64_t P, int64_t N)
      : steps(*reinterpret_cast<SsdSteps*>(space)),
        l(reinterpret_cast<real*>(&steps + 1)),
        column(l + kChunk),
        dl(column + kChunk),
        cb(dl + kChunk),
        dcb(cb + kChunk * kChunk),
        weights(dcb + kChunk * kChunk),
        dweights(weights + kChunk * kChunk),
        of_n(dweights + kChunk * kChunk),
        of_p(of_n + kChunk * N),
        multiply{of_p + kChunk * P},
        z(multiply.space + product_reals(P, N)) {}
};

// One head in one chunk.
struct Part {
  const SsdHead& head;
  const Space& space;
  int64_t begin, count;
  bool entered;  // whether a state enters that is not zero

  int64_t P() const { return head.args.P; }
  int64_t N() const { return head.args.N; }
  int64_t stride() const { return head.args.H * head.args.P; }  // of x and the like
  Matrix rows(const real* x) const { return {x + head.at(begin), stride()}; }
  Matrix b() const { return {head.args.b + head.row(begin), head.args.G * N()}; }
  Matrix c() const { return {head.args.c + head.row(begin), head.args.G * N()}; }
  real last() const { return space.l[count - 1]; }

  void load_steps() const {
    load_ssd_steps(head, begin, begin + count, space.steps);
    real sum = 0;
    for (int64_t t = 0; t < count; ++t) {
      const real log = space.steps.dt[t] * head.args.a[head.h];
      space.l[t] = sum += log < kLeast ? kLeast : log;
    }
    for (int64_t t = count; t < kChunk; ++t) space.l[t] = space.steps.dt[t] = 0;
  }
};

// visit(t, s, lanes there are, exp(l_t - l_s)) for s <= t; the exponential is masked before it is
// taken, so that none overflows.
template <class Visit>
FPRNN_INLINE void for_pairs(const Space& space, int64_t t, const Visit& visit) {
  for (int64_t s = 0; s <= t; s += kLanes) {
    const IntVec there = first_lanes(minimum(kLanes, t + 1 - s));
    const Vec exponent = select(there, space.l[t] - load(space.l + s), splat(kLeast));
    visit(s, there, select(there, exp(exponent), Vec{}));
  }
}

FPRNN_INLINE void clear(real* x, int64_t count) {
  for_lanes(count, [&](int64_t i, auto lanes) FPRNN_LAMBDA { lanes.store(x + i, Vec{}); });
}

// C B^T of a chunk, for all heads of a group.
void products_of(const Part& part) {
  clear(part.space.cb, kChunk * kChunk);
  part.space.multiply(part.c(), transpose_of(part.b()), part.space.cb, kChunk, part.count,
                      part.count, part.N(), false);
}

// y of a chunk, and the state after it in place of the one before it.
void forward_part(const Part& part, real* s) {
  const Space& space = part.space;
  const SsdHead& head = part.head;
  const int64_t P = part.P(), N = part.N(), count = part.count;
  for (int64_t t = 0; t < count; ++t) {
    for_lanes(P, [&](int64_t p, auto lanes) FPRNN_LAMBDA {
      const int64_t at = head.at(part.begin + t) + p;
      lanes.store(head.args.y + at, head.skip(p, lanes) * lanes.load(head.args.x + at));
    });
    real* const row = space.weights + t * kChunk;
    for_pairs(space, t, [&](int64_t at, IntVec, Vec e) FPRNN_LAMBDA {
      store(row + at, e * load(space.cb + t * kChunk + at) * load(space.steps.dt + at));
    });
    clear_after(row, t, kChunk);
  }
  real* const y = head.args.y + head.at(part.begin);
  space.multiply({space.weights, kChunk}, part.rows(head.args.x), y, part.stride(), count, P, count,
                 true);
  if (part.entered) {
    scale_rows(part.c(), count, N, space.of_n, [&](int64_t t) { return exp_of(space.l[t]); });
    space.multiply({space.of_n, N}, {s, N, true}, y, part.stride(), count, P, N, true);
    scale(s, P * N, exp_of(part.last()));
  }
  scale_rows(part.rows(head.args.x), count, P, space.of_p,
             [&](int64_t t) { return exp_of(part.last() - space.l[t]) * space.steps.dt[t]; });
  space.multiply({space.of_p, P, true}, part.b(), s, N, P, N, count, part.entered);
}

// Through the weights exp(l_t - l_s) (C_t . B_s) dt_s: dl, the sums of columns that dt needs, dC B^T
// and dx. dx is set, all others are added to.
void backward_weights(const Part& part, const SsdScanBackward& args) {
  const Space& space = part.space;
  const int64_t count = part.count;
  space.multiply(part.rows(args.dy), transpose_of(part.rows(part.head.args.x)), space.dweights,
                 kChunk, count, count, part.P(), false);
  for (int64_t t = 0; t < count; ++t) {
    const int64_t row = t * kChunk;
    Vec total{};
    for_pairs(space, t, [&](int64_t s, IntVec there, Vec e) FPRNN_LAMBDA {
      const Vec dt = load(space.steps.dt + s), cb = load(space.cb + row + s);
      const Vec d = select(there, load(space.dweights + row + s), Vec{});
      store(space.weights + row + s, e * cb * dt);
      store(space.dcb + row + s, load(space.dcb + row + s) + d * e * dt);
      const Vec moved = d * e * cb;
      store(space.column + s, load(space.column + s) + moved);
      total += moved * dt;
    });
    clear_after(space.weights + row, t, kChunk);
    space.dl[t] += sum(total);
  }
  for (int64_t s = 0; s < count; ++s) space.dl[s] -= space.column[s] * space.steps.dt[s];
  space.multiply({space.weights, kChunk, true}, part.rows(args.dy),
                 args.dx + part.head.at(part.begin), part.stride(), count, part.P(), count, false);
}

// Through the state s that has entered: y_t += exp(l_t) s C_t. Gives its cotangent to z, which
// holds that of the state that leaves, times exp(l of the last step).
void backward_entered(const Part& part, const SsdScanBackward& args, const real* s, real* z,
                      real* dc) {
  const Space& space = part.space;
  const int64_t P = part.P(), N = part.N(), count = part.count, stride = part.c().stride;
  scale_rows(part.rows(args.dy), count, P, space.of_p,
             [&](int64_t t) { return exp_of(space.l[t]); });
  space.multiply({space.of_p, P}, {s, N}, space.of_n, N, count, N, P, false);
  for (int64_t t = 0; t < count; ++t) {
    space.dl[t] += dot(part.c().data + t * stride, space.of_n + t * N, N);
    for_lanes(N, [&](int64_t n, auto lanes) FPRNN_LAMBDA {
      lanes.store(dc + t * N + n, lanes.load(dc + t * N + n) + lanes.load(space.of_n + t * N + n));
    });
  }
  space.multiply({space.of_p, P, true}, part.c(), z, N, P, N, count, true);
}

// Through the state that leaves, sum_s exp(l - l_s) dt_s x_s B_s^T, whose cotangent is z.
void backward_left(const Part& part, const SsdScanBackward& args, const real* z, real* db) {
  const Space& space = part.space;
  const int64_t P = part.P(), N = part.N(), count = part.count, stride = part.b().stride;
  space.multiply(part.rows(part.head.args.x), {z, N}, space.of_n, N, count, N, P, false);
  for (int64_t s = 0; s < count; ++s) {
    const real w = exp_of(part.last() - space.l[s]), by = w * space.steps.dt[s];
    const real moved = w * dot(part.b().data + s * stride, space.of_n + s * N, N);
    space.column[s] += moved;
    space.dl[s] -= moved * space.steps.dt[s];
    space.dl[count - 1] += moved * space.steps.dt[s];
    for_lanes(N, [&](int64_t n, auto lanes) FPRNN_LAMBDA {
      lanes.store(db + s * N + n,
                  lanes.load(db + s * N + n) + by * lanes.load(space.of_n + s * N + n));
    });
  }
  scale_rows(part.b(), count, N, space.of_n,
             [&](int64_t s) { return exp_of(part.last() - space.l[s]) * space.steps.dt[s]; });
  space.multiply({space.of_n, N}, {z, N, true}, args.dx + part.head.at(part.begin), part.stride(),
                 count, P, N, true);
}

// The skip, and the steps' own numbers: l_t sums ln a = dt A up to t.
void backward_steps(const Part& part, const SsdScanBackward& args, const SsdShares& shares) {
  const Space& space = part.space;
  const SsdHead& head = part.head;
  real* const dskip = shares.dskip + head.h * part.P();
  real dlog = 0;
  for (int64_t t = part.count - 1; t >= 0; --t) {
    for_lanes(part.P(), [&](int64_t p, auto lanes) FPRNN_LAMBDA {
      const int64_t at = head.at(part.begin + t) + p;
      const Vec dy = lanes.load(args.dy + at);
      lanes.store(args.dx + at, lanes.load(args.dx + at) + head.skip(p, lanes) * dy);
      lanes.store(dskip + p, lanes.load(dskip + p) + dy * lanes.load(head.args.x + at));
    });
    dlog += space.dl[t];
    store_ssd_step(head, args, part.begin + t, t, dlog, space.column[t], space.steps, shares);
  }
}

void backward_part(const Part& part, const SsdScanBackward& args, bool left, real* z,
                   const SsdShares& shares) {
  const Space& space = part.space;
  const int64_t state = part.P() * part.N(), at = part.begin * part.N();
  const real* const s = part.head.checkpoint(part.begin / kChunk);
  clear(space.column, kChunk);
  clear(space.dl, kChunk);
  backward_weights(part, args);
  if (left) {
    const real factor = exp_of(part.last());
    backward_left(part, args, z, shares.db + at);
    if (part.entered) space.dl[part.count - 1] += factor * dot(z, s, state);
    scale(z, state, factor);
  }
  if (part.entered) backward_entered(part, args, s, z, shares.dc + at);
  backward_steps(part, args, shares);
}

// What all heads have left in dC B^T goes to dc and db.
void backward_products(const Part& part, real* db, real* dc) {
  const int64_t N = part.N(), count = part.count;
  part.space.multiply({part.space.dcb, kChunk}, part.b(), dc, N, count, N, count, true);
  part.space.multiply({part.space.dcb, kChunk, true}, part.c(), db, N, count, N, count, true);
}

void copy_state(const real* from, real* to, int64_t count) {
  if (from != nullptr)
    __builtin_memcpy(to, from, count * sizeof(real));
  else
    clear(to, count);
}

}  // namespace

int64_t ssd_chunks_space(int64_t P, int64_t N, int64_t heads) { return Space::reals(P, N, heads); }

// Heads first .. last - 1, all of one group, of sequence b.
void ssd_chunks_forward(const SsdScanForward& args, int64_t b, int64_t first, int64_t last,
                        real* reals) {
  const Space space(reals, args.P, args.N);
  const int64_t state = args.P * args.N;
  for (int64_t h = first; h < last; ++h) {
    const int64_t at = SsdHead{args, b, h}.state();
    copy_state(args.h0 != nullptr ? args.h0 + at : nullptr, args.state + at, state);
  }
  for (int64_t begin = 0; begin < args.T; begin += kChunk) {
    const bool entered = begin > 0 || args.h0 != nullptr;
    for (int64_t h = first; h < last; ++h) {
      const SsdHead head{args, b, h};
      const Part part{head, space, begin, minimum(kChunk, args.T - begin), entered};
      if (h == first) products_of(part);
      part.load_steps();
      real* const s = args.state + head.state();
      if (args.checkpoints != nullptr && entered)
        copy_state(s, head.checkpoint(begin / kChunk), state);
      forward_part(part, s);
    }
  }
}

void ssd_chunks_backward(const SsdScanBackward& args, int64_t b, int64_t first, int64_t last,
                         const SsdShares& shares, real* reals) {
  const SsdScanForward& in = args.forward;
  const Space space(reals, in.P, in.N);
  const int64_t state = in.P * in.N, chunks = (in.T + kChunk - 1) / kChunk;
  for (int64_t h = first; h < last; ++h)
    copy_state(args.dstate != nullptr ? args.dstate + SsdHead{in, b, h}.state() : nullptr,
               space.z + (h - first) * state, state);
  for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    const int64_t begin = chunk * kChunk;
    const bool entered = chunk > 0 || in.h0 != nullptr;
    const bool left = chunk + 1 < chunks || args.dstate != nullptr;
    for (int64_t h = first; h < last; ++h) {
      const SsdHead head{in, b, h};
      const Part part{head, space, begin, minimum(kChunk, in.T - begin), entered};
      if (h == first) {
        products_of(part);
        clear(space.dcb, kChunk * kChunk);
      }
      part.load_steps();
      backward_part(part, args, left, space.z + (h - first) * state, shares);
      if (h + 1 == last)
        backward_products(part, shares.db + begin * in.N, shares.dc + begin * in.N);
    }
  }
  if (args.dh0 != nullptr)
    for (int64_t h = first; h < last; ++h)
      copy_state(space.z + (h - first) * state, args.dh0 + SsdHead{in, b, h}.state(), state);
}

}  // namespace fprnn::FPRNN_ISA
