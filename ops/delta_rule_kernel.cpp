#include <fprnn/core/vector_math.h>
#include <fprnn/ops/delta_rule.h>

#include <type_traits>

namespace fprnn::FPRNN_ISA {

namespace {

constexpr int kMost = 4;  // vectors of columns that go through a sequence together
constexpr int64_t kWidest = kMost * kLanes;

template <int Count>
FPRNN_INLINE Pack<Count> load_row(const real* from) {
  Pack<Count> x;
  repeat<Count>([&](int i) FPRNN_LAMBDA { x.v[i] = load(from + i * kLanes); });
  return x;
}
template <int Count>
FPRNN_INLINE void store_row(real* to, const Pack<Count>& x) {
  repeat<Count>([&](int i) FPRNN_LAMBDA { store(to + i * kLanes, x.v[i]); });
}

// Columns of one value head: Count vectors from `column` on, of which the last may be incomplete.
// In working space a block of S is (K, Count vectors), filled up with zeros; sub-steps are counted
// through all tokens, s = t n + i.
template <int Count>
struct Block {
  static constexpr int64_t kWidth = Count * kLanes;
  const DeltaRuleForward& args;
  int64_t b, head, column;

  FPRNN_INLINE int64_t steps() const { return args.T * args.n; }
  FPRNN_INLINE int64_t key_head() const { return head / (args.HV / args.H); }
  FPRNN_INLINE int64_t lanes(int i) const {
    const int64_t left = args.V - column - i * kLanes;
    return left < 0 ? 0 : minimum(left, kLanes);
  }
  // Masked stores are slow on some processors: whole vectors go without.
  FPRNN_INLINE Pack<Count> load(const real* row) const {
    Pack<Count> x;
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      const real* from = row + column + i * kLanes;
      x.v[i] = lanes(i) == kLanes ? FPRNN_ISA::load(from) : load_partial(from, lanes(i));
    });
    return x;
  }
  FPRNN_INLINE void store(real* row, const Pack<Count>& x) const {
    repeat<Count>([&](int i) FPRNN_LAMBDA {
      real* to = row + column + i * kLanes;
      if (lanes(i) == kLanes)
        FPRNN_ISA::store(to, x.v[i]);
      else
        store_partial(to, x.v[i], lanes(i));
    });
  }
  // Between a matrix (K, V) and a block of it; one that is null is zero.
  FPRNN_INLINE void load_matrix(const real* from, real* S) const {
    for (int64_t k = 0; k < args.K; ++k)
      store_row(S + k * kWidth, from != nullptr ? load(from + k * args.V) : Pack<Count>{});
  }
  FPRNN_INLINE void store_matrix(const real* S, real* to) const {
    for (int64_t k = 0; k < args.K; ++k) store(to + k * args.V, load_row<Count>(S + k * kWidth));
  }

  FPRNN_INLINE int64_t query(int64_t t) const {
    return ((b * args.T + t) * args.H + key_head()) * args.K;
  }
  FPRNN_INLINE int64_t key(int64_t s) const {
    return ((b * steps() + s) * args.H + key_head()) * args.K;
  }
  FPRNN_INLINE int64_t step(int64_t s) const { return (b * steps() + s) * args.HV + head; }
  FPRNN_INLINE int64_t token(int64_t t) const { return (b * args.T + t) * args.HV + head; }
  FPRNN_INLINE int64_t matrix(int64_t chunk, int64_t chunks) const {
    return ((b * chunks + chunk) * args.HV + head) * args.K * args.V;
  }
  FPRNN_INLINE bool decays(int64_t s) const { return args.g != nullptr && s % args.n == 0; }
  // The factor of S in front of a sub-step.
  FPRNN_INLINE real decay(int64_t s) const {
    return decays(s) ? exp(splat(args.g[token(s / args.n)]))[0] : real(1);
  }
};

// visit(Block) for all columns of a value head.
template <class Visit>
FPRNN_INLINE void for_blocks(const DeltaRuleForward& args, int64_t b, int64_t head,
                             const Visit& visit) {
  for (int64_t column = 0; column < args.V;) {
    const int64_t left = args.V - column;
    if (left > 2 * kLanes) {
      visit(Block<kMost>{args, b, head, column});
      column += kWidest;
    } else if (left > kLanes) {
      visit(Block<2>{args, b, head, column});
      column += 2 * kLanes;
    } else {
      visit(Block<1>{args, b, head, column});
      column += kLanes;
    }
  }
}

template <class Visit>
FPRNN_INLINE void with_flags(bool first, bool second, const Visit& visit) {
  if (first && second)
    visit(std::true_type{}, std::true_type{});
  else if (first)
    visit(std::true_type{}, std::false_type{});
  else if (second)
    visit(std::false_type{}, std::true_type{});
  else
    visit(std::false_type{}, std::false_type{});
}

// S^T k.
template <int Count>
FPRNN_INLINE Pack<Count> read(const real* S, const real* k, int64_t K) {
  Pack<Count> sum{};
  for (int64_t i = 0; i < K; ++i) {
    const real key = k[i];
    repeat<Count>([&](int j)
                      FPRNN_LAMBDA { sum.v[j] += load(S + (i * Count + j) * kLanes) * key; });
  }
  return sum;
}

// A sub-step of S in one pass over it: what its key, the next sub-step's key and, after the last
// sub-step of a token, the query read.
template <int Count>
struct Passing {
  real decay;
  const real *k, *next, *q;  // (K)
  Pack<Count> write;         // beta (v - S^T k)
  Pack<Count> at_next{}, at_q{};
};
template <bool Decays, bool Reads, int Count>
FPRNN_INLINE void pass(const real* from, real* to, int64_t K, Passing<Count>& step) {
  const Pack<Count> write = step.write;
  Pack<Count> at_next{}, at_q{};
  for (int64_t i = 0; i < K; ++i) {
    const real k = step.k[i], next = step.next[i], q = step.q[i];
    repeat<Count>([&](int j) FPRNN_LAMBDA {
      Vec S = load(from + (i * Count + j) * kLanes);
      if constexpr (Decays) S *= step.decay;
      S += write.v[j] * k;
      store(to + (i * Count + j) * kLanes, S);
      at_next.v[j] += S * next;
      if constexpr (Reads) at_q.v[j] += S * q;
    });
  }
  step.at_next = at_next;
  step.at_q = at_q;
}

// Sub-step s of the block, from one place to another, perhaps the same. `seen` is S^T k on the way
// in and that of the next sub-step on the way out; error is v - S^T k.
template <bool Reads, int Count>
FPRNN_INLINE void advance(const Block<Count>& at, int64_t s, const real* from, real* to,
                          Pack<Count>& seen, Pack<Count>& error, Pack<Count>& at_q) {
  const DeltaRuleForward& args = at.args;
  const real decay = at.decay(s);
  error = each([decay](Vec v, Vec p) { return v - p * decay; },
               at.load(args.v + at.step(s) * args.V), seen);
  Passing<Count> step{decay, args.k + at.key(s), args.k + at.key(minimum(s + 1, at.steps() - 1)),
                      args.q + at.query(s / args.n), error * args.beta[at.step(s)]};
  with_flags(at.decays(s), Reads && (s + 1) % args.n == 0, [&](auto decays, auto reads) {
    pass<decays, Reads && reads>(from, to, args.K, step);
  });
  seen = step.at_next;
  at_q = step.at_q;
}

template <int Count>
FPRNN_INLINE void forward(const Block<Count>& at, real* S) {
  const DeltaRuleForward& args = at.args;
  const int64_t chunks = (args.T + kDeltaRuleChunk - 1) / kDeltaRuleChunk;
  at.load_matrix(args.entering != nullptr ? args.entering + at.matrix(0, 1) : nullptr, S);
  if (args.T > 0) {
    Pack<Count> seen = read<Count>(S, args.k + at.key(0), args.K), error, at_q{};
    for (int64_t t = 0; t < args.T; ++t) {
      if (args.checkpoints != nullptr && t % kDeltaRuleChunk == 0)
        at.store_matrix(S, args.checkpoints + at.matrix(t / kDeltaRuleChunk, chunks));
      for (int64_t s = t * args.n; s < (t + 1) * args.n; ++s)
        advance<true>(at, s, S, S, seen, error, at_q);
      at.store(args.o + at.token(t) * args.V, at_q * args.scale);
    }
  }
  at.store_matrix(S, args.state + at.matrix(0, 1));
}

// A sub-step backwards in one pass over S, the state before it, and Z, the cotangent of the state
// after it, which becomes that of the state before; on the way the query of the token before
// is passed and the key of the sub-step before reads Z.
template <int Count>
struct Returning {
  real decay, beta;
  const real *k, *before, *q;  // (K): this sub-step's key, the one before's, the query
  Pack<Count> error, w, d_o;   // v - S^T k, Z^T k, and the cotangent of S^T q
  real *dk, *dq;               // (K)
  bool more;                   // dk and dq have a share already
  Pack<Count> at_before{};     // Z^T before
  Vec gate{};                  // lanes of <Z, S>
};
template <bool Decays, bool Reads, int Count>
FPRNN_INLINE void pass_back(const real* S, real* Z, int64_t K, Returning<Count>& step) {
  const Pack<Count> error = step.error, d_o = step.d_o, write = step.w * step.beta,
                    decayed = step.w * step.decay;
  Pack<Count> at_before{};
  Vec gate{};
  for_lanes(K, [&](int64_t first, auto lanes) FPRNN_LAMBDA {
    Vec dk[kLanes], dq[kLanes];
    for (int64_t r = 0; r < kLanes; ++r) dk[r] = dq[r] = Vec{};
    const int64_t rows = minimum(kLanes, K - first);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t i = first + r;
      const real k = step.k[i], before = step.before[i], q = step.q[i];
      Vec of_z{}, of_s{}, query{}, kept{};  // sums apart: short chains of dependent sums
      repeat<Count>([&](int j) FPRNN_LAMBDA {
        const Vec s = load(S + (i * Count + j) * kLanes);
        Vec z = load(Z + (i * Count + j) * kLanes);
        of_z += z * error.v[j];
        of_s += s * decayed.v[j];
        z -= write.v[j] * k;
        if constexpr (Decays) {
          kept += z * s;
          z *= step.decay;
        }
        if constexpr (Reads) {
          query += s * d_o.v[j];
          z += d_o.v[j] * q;
        }
        store(Z + (i * Count + j) * kLanes, z);
        at_before.v[j] += z * before;
      });
      dk[r] = of_z - of_s;
      dq[r] = query;
      gate += kept;
    }
    const auto add = [&](real* to, Vec x) FPRNN_LAMBDA {
      lanes.store(to + first, step.more ? lanes.load(to + first) + x : x);
    };
    add(step.dk, sums(dk, 1) * step.beta);
    if constexpr (Reads) add(step.dq, sums(dq, 1));
  });
  step.at_before = at_before;
  step.gate = gate;
}

// The working space of backward, one part behind the other.
template <int Count>
struct Space {
  real* Z;       // (K, columns)
  real* states;  // (sub-steps of a chunk + 1, K, columns): S before each and after the last
  real* errors;  // (sub-steps of a chunk, columns)
  real* unused;  // (K)

  Space(const DeltaRuleForward& args, real* space)
      : Z(space),
        states(Z + args.K * kWidest),
        errors(states + (kDeltaRuleChunk * args.n + 1) * args.K * kWidest),
        unused(errors + kDeltaRuleChunk * args.n * kWidest) {}
  static int64_t reals(const DeltaRuleForward& args) {
    return (kDeltaRuleChunk * args.n + 2) * args.K * kWidest + kDeltaRuleChunk * args.n * kWidest +
           args.K;
  }
};

template <int Count>
FPRNN_INLINE Pack<Count> output_cotangent(const Block<Count>& at, const DeltaRuleBackward& args,
                                          int64_t t) {
  if (args.d_o == nullptr || t < 0) return Pack<Count>{};
  return at.load(args.d_o + at.token(t) * args.V) * args.scale;
}

// States and errors of sub-steps first .. last - 1, from the checkpoint of their chunk.
template <int Count>
FPRNN_INLINE void recompute(const Block<Count>& at, int64_t first, int64_t last,
                            const Space<Count>& space) {
  const DeltaRuleForward& args = at.args;
  const int64_t chunks = (args.T + kDeltaRuleChunk - 1) / kDeltaRuleChunk;
  const int64_t matrix = args.K * Block<Count>::kWidth;
  real* S = space.states;
  at.load_matrix(args.checkpoints + at.matrix(first / (kDeltaRuleChunk * args.n), chunks), S);
  Pack<Count> seen = read<Count>(S, args.k + at.key(first), args.K), error, at_q{};
  for (int64_t s = first; s < last; ++s, S += matrix) {
    advance<false>(at, s, S, S + matrix, seen, error, at_q);
    store_row(space.errors + (s - first) * Block<Count>::kWidth, error);
  }
}

// dq and dk begin with the first columns of the first value head that reads a key head, dbeta and
// dg with the first columns of their own.
template <int Count>
FPRNN_INLINE void backward(const Block<Count>& at, const DeltaRuleBackward& args, real* working) {
  const Space<Count> space(args, working);
  const int64_t n = args.n, steps = at.steps(), matrix = args.K * Block<Count>::kWidth;
  const bool more = at.column > 0, more_keys = more || at.head % (args.HV / args.H) > 0;
  at.load_matrix(args.dstate != nullptr ? args.dstate + at.matrix(0, 1) : nullptr, space.Z);
  const int64_t of_chunk = kDeltaRuleChunk * n;
  Pack<Count> w{};
  for (int64_t first = (steps - 1) / of_chunk * of_chunk; first >= 0 && steps > 0;
       first -= of_chunk) {
    const int64_t last = minimum(first + of_chunk, steps);
    recompute(at, first, last, space);
    if (last == steps) {  // the last query alone: a sub-step that writes nothing
      Returning<Count> end{1,
                           0,
                           args.k + at.key(last - 1),
                           args.k + at.key(last - 1),
                           args.q + at.query(args.T - 1),
                           {},
                           {},
                           output_cotangent(at, args, args.T - 1),
                           space.unused,
                           args.dq + at.query(args.T - 1),
                           more_keys};
      pass_back<false, true>(space.states + (last - first) * matrix, space.Z, args.K, end);
      w = end.at_before;
    }
    for (int64_t s = last - 1; s >= first; --s) {
      const int64_t before = s > 0 ? s - 1 : 0, t = before / n;
      const bool reads = s > 0 && s % n == 0;
      Returning<Count> step{at.decay(s),
                            args.beta[at.step(s)],
                            args.k + at.key(s),
                            args.k + at.key(before),
                            args.q + at.query(t),
                            load_row<Count>(space.errors + (s - first) * Block<Count>::kWidth),
                            w,
                            output_cotangent(at, args, reads ? t : -1),
                            args.dk + at.key(s),
                            args.dq + at.query(t),
                            more_keys};
      with_flags(at.decays(s), reads, [&](auto decays, auto read) {
        pass_back<decays, read>(space.states + (s - first) * matrix, space.Z, args.K, step);
      });
      at.store(args.dv + at.step(s) * args.V, w * step.beta);
      Vec dbeta{};
      repeat<Count>([&](int j) FPRNN_LAMBDA { dbeta += step.error.v[j] * w.v[j]; });
      const auto add = [&](real* to, real x) { *to = more ? *to + x : x; };
      add(args.dbeta + at.step(s), sum(dbeta));
      if (at.decays(s)) add(args.dg + at.token(s / n), sum(step.gate) * step.decay);
      w = step.at_before;
    }
  }
  if (args.dentering != nullptr) at.store_matrix(space.Z, args.dentering + at.matrix(0, 1));
}

}  // namespace

// Reals of working space of the functions below.
int64_t delta_rule_space(const DeltaRuleForward& args, bool backward) {
  return backward ? Space<1>::reals(args) : args.K * kWidest;
}

// A unit is a value head of a sequence.
void delta_rule_forward(const DeltaRuleForward& args, real* space, int64_t unit) {
  for_blocks(args, unit / args.HV, unit % args.HV,
             [&](const auto& at) FPRNN_LAMBDA { forward(at, space); });
}

// A unit is a key head of a sequence, with the value heads that read it.
void delta_rule_backward(const DeltaRuleBackward& args, real* space, int64_t unit) {
  const int64_t heads = args.HV / args.H, first = unit % args.H * heads;
  for (int64_t head = first; head < first + heads; ++head)
    for_blocks(args, unit / args.H, head,
               [&](const auto& at) FPRNN_LAMBDA { backward(at, args, space); });
}

}  // namespace fprnn::FPRNN_ISA
