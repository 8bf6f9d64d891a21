// Attention of one head, a block of queries by a block of keys at a time (attention.md). A block of
// scores, weights or their cotangents is (queries, keys) with rows kKeys apart.
#include <fprnn/core/vector_math.h>
#include <fprnn/ops/attention.h>
#include <fprnn/ops/matmul.h>

namespace fprnn::FPRNN_ISA {

void gemm(const Gemm& args, real* workspace);

namespace {

constexpr int64_t kQueries = 128, kKeys = 64;
constexpr int64_t kColumns = 4096 / sizeof(real);  // of a block of the matrix product
constexpr int64_t kFew = 4;                        // fewer rows do not repay that keys are packed
// Where a row's maximum starts: so low that e to its distance from any score is 0, yet a number.
constexpr real kLowest = static_cast<real>(kDouble ? -0x1p1000 : -0x1p120);

FPRNN_INLINE int64_t maximum(int64_t a, int64_t b) { return a < b ? b : a; }

// Working space of a unit.
struct Space {
  real *weights, *dweights;  // (kQueries, kKeys)
  real *most, *sum;          // (kQueries): of a row's scores, and of its weights
  real* product;             // of a matrix product

  static int64_t reals(int64_t d) {
    return 2 * kQueries * kKeys + 2 * kQueries + kQueries * (minimum(d, kColumns) + 2 * kLanes);
  }
  explicit Space(real* space)
      : weights(space),
        dweights(weights + kQueries * kKeys),
        most(dweights + kQueries * kKeys),
        sum(most + kQueries),
        product(sum + kQueries) {}
};

struct Head {
  const AttentionForward& args;
  int64_t b, h;

  Head(const AttentionForward& of, int64_t unit) : args(of), b(unit / of.H), h(unit % of.H) {}
  int64_t stride() const { return args.H * args.d; }  // of q, k and the like
  int64_t query(int64_t t) const { return ((b * args.T + t) * args.H + h) * args.d; }
  int64_t key(int64_t s) const { return ((b * args.S + s) * args.H + h) * args.d; }
  real* row(int64_t t) const { return args.rows + 2 * ((b * args.H + h) * args.T + t); }
  int64_t position(int64_t t) const { return args.S - args.T + t; }
  real slope() const { return args.slopes != nullptr ? args.slopes[h] : real(0); }
  // The first key that position p sees.
  int64_t first(int64_t p) const {
    const int64_t window = args.windows != nullptr ? args.windows[h] : 0;
    return window > 0 ? maximum(0, p - window + 1) : 0;
  }
  int64_t first_block(int64_t t) const { return first(position(t)) / kKeys * kKeys; }
};

// Queries t .. t + rows - 1 by keys s .. s + keys - 1.
struct Block {
  const Head& head;
  const Space& space;
  int64_t t, s, rows, keys;

  Block(const Head& head, const Space& space, int64_t t, int64_t s)
      : head(head),
        space(space),
        t(t),
        s(s),
        rows(minimum(kQueries, head.args.T - t)),
        keys(minimum(kKeys, head.position(t) + rows - s)) {}

  // block <- x y^T, rows of the queries' side by rows of the keys'.
  void score(const real* x, const real* y, real* block) const {
    const int64_t d = head.args.d, stride = head.stride();
    x += head.query(t);
    y += head.key(s);
    if (rows < kFew)
      for (int64_t i = 0; i < rows; ++i) score_row(x + i * stride, y, block + i * kKeys);
    else
      gemm({.a = x,
            .b = y,
            .c = block,
            .M = rows,
            .N = keys,
            .K = d,
            .lda = stride,
            .ldb = stride,
            .ldc = kKeys,
            .transpose_b = true},
           space.product);
  }
  FPRNN_INLINE void score_row(const real* x, const real* y, real* row) const {
    for (int64_t column = 0; column < keys; column += kLanes) {
      Vec part[kLanes] = {};
      for (int64_t j = 0; j < kLanes; ++j) {
        const real* const key = y + minimum(column + j, keys - 1) * head.stride();
        for_lanes(head.args.d, [&](int64_t i, auto lanes) FPRNN_LAMBDA {
          part[j] += lanes.load(x + i) * lanes.load(key + i);
        });
      }
      store(row + column, sums(part, 1));
    }
  }

  // visit(column, lanes that are seen, score) for row i of the products.
  template <class Visit>
  FPRNN_INLINE void for_scores(int64_t i, const Visit& visit) const {
    const int64_t p = head.position(t + i), begin = head.first(p) - s;
    const int64_t end = minimum(keys, p + 1 - s);
    const real scale = head.args.scale, slope = head.slope();
    Vec number;
    for (int64_t lane = 0; lane < kLanes; ++lane) number[lane] = static_cast<real>(lane);
    for (int64_t column = 0; column < keys; column += kLanes) {
      const IntVec seen = first_lanes(end - column) & ~first_lanes(begin - column);
      const Vec distance = number + static_cast<real>(s + column - p);
      const Vec product = load(space.weights + i * kKeys + column);
      visit(column, seen, scale * product + slope * distance);
    }
  }

  // From the products to weights of row i, not yet divided by their sum; the factor of what earlier
  // blocks have left.
  FPRNN_INLINE real weigh(int64_t i) const {
    real* const row = space.weights + i * kKeys;
    const real before = space.most[i];
    Vec most = splat(before);
    for_scores(i, [&](int64_t column, IntVec seen, Vec score) FPRNN_LAMBDA {
      most = larger(select(seen, score, splat(kLowest)), most);
      store(row + column, score);
    });
    const real now = largest(most), factor = exp(splat(before - now))[0];
    Vec total{};
    for_scores(i, [&](int64_t column, IntVec seen, Vec) FPRNN_LAMBDA {
      const Vec weight = select(seen, exp(load(row + column) - now), Vec{});
      total += weight;
      store(row + column, weight);
    });
    space.most[i] = now;
    space.sum[i] = space.sum[i] * factor + sum(total);
    return factor;
  }

  // to (M, d) <- to + op(weights) x, with rows of x and `to` where the kernel's tensors have them.
  void add_product(const real* weights, bool of_keys, const real* x, real* to) const {
    gemm({.a = weights,
          .b = x,
          .c = to,
          .M = of_keys ? keys : rows,
          .N = head.args.d,
          .K = of_keys ? rows : keys,
          .lda = kKeys,
          .ldb = head.stride(),
          .ldc = head.stride(),
          .transpose_a = of_keys,
          .accumulate = true},
         space.product);
  }
};

// Rows of a head times a factor, or set to 0.
FPRNN_INLINE void scale_row(real* row, int64_t d, real by) {
  for_lanes(d, [&](int64_t i, auto lanes)
                   FPRNN_LAMBDA { lanes.store(row + i, by * lanes.load(row + i)); });
}
void clear_rows(real* x, int64_t rows, const Head& head) {
  for (int64_t i = 0; i < rows; ++i)
    for_lanes(head.args.d, [&](int64_t j, auto lanes)
                               FPRNN_LAMBDA { lanes.store(x + i * head.stride() + j, Vec{}); });
}

// The weights of a block and the cotangents of its products.
void differentiate(const Block& block, const AttentionBackward& args) {
  const auto& [head, space, t, s, rows, keys] = block;
  block.score(args.q, args.k, space.weights);
  block.score(args.dy, args.v, space.dweights);
  for (int64_t i = 0; i < rows; ++i) {
    const real* const dy = args.dy + head.query(t + i);
    const real* const y = args.y + head.query(t + i);
    Vec product{};
    for_lanes(args.d, [&](int64_t j, auto lanes)
                          FPRNN_LAMBDA { product += lanes.load(dy + j) * lanes.load(y + j); });
    const real mean = sum(product), most = head.row(t + i)[0], inverse = head.row(t + i)[1];
    real* const weights = space.weights + i * kKeys;
    real* const dweights = space.dweights + i * kKeys;
    block.for_scores(i, [&](int64_t column, IntVec seen, Vec score) FPRNN_LAMBDA {
      const Vec weight = select(seen, exp(score - most) * inverse, Vec{});
      const Vec moved = args.scale * weight * (load(dweights + column) - mean);
      store(weights + column, weight);
      store(dweights + column, select(seen, moved, Vec{}));
    });
  }
}

// dk and dv of keys s .. s + kKeys - 1, and what they give to dq if that is wanted.
void differentiate_keys(const Head& head, const AttentionBackward& args, const Space& space,
                        int64_t s, bool queries) {
  const int64_t count = minimum(kKeys, args.S - s);
  clear_rows(args.dk + head.key(s), count, head);
  clear_rows(args.dv + head.key(s), count, head);
  const int64_t earliest = maximum(0, s - head.position(0)) / kQueries * kQueries;
  for (int64_t t = earliest; t < args.T && head.first_block(t) <= s; t += kQueries) {
    const Block block(head, space, t, s);
    differentiate(block, args);
    block.add_product(space.weights, true, args.dy + head.query(t), args.dv + head.key(s));
    block.add_product(space.dweights, true, args.q + head.query(t), args.dk + head.key(s));
    if (queries)
      block.add_product(space.dweights, false, args.k + head.key(s), args.dq + head.query(t));
  }
}

int64_t blocks_of(int64_t count, int64_t each) { return (count + each - 1) / each; }

}  // namespace

int64_t attention_space(const AttentionForward& args) { return Space::reals(args.d); }
int64_t attention_query_blocks(const AttentionForward& args) { return blocks_of(args.T, kQueries); }
int64_t attention_key_blocks(const AttentionForward& args) { return blocks_of(args.S, kKeys); }

// A block of queries of one head.
void attention_forward(const AttentionForward& args, real* reals, int64_t unit) {
  const int64_t blocks = attention_query_blocks(args);
  const Head head(args, unit / blocks);
  const Space space(reals);
  const int64_t t = unit % blocks * kQueries, rows = minimum(kQueries, args.T - t);
  real* const y = args.y + head.query(t);
  clear_rows(y, rows, head);
  for (int64_t i = 0; i < rows; ++i) {
    space.most[i] = kLowest;
    space.sum[i] = 0;
  }
  for (int64_t s = head.first_block(t); s < head.position(t) + rows; s += kKeys) {
    const Block block(head, space, t, s);
    block.score(args.q, args.k, space.weights);
    for (int64_t i = 0; i < rows; ++i)
      if (const real factor = block.weigh(i); factor != 1)
        scale_row(y + i * head.stride(), args.d, factor);
    block.add_product(space.weights, false, args.v + head.key(s), y);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const real inverse = 1 / space.sum[i];
    scale_row(y + i * head.stride(), args.d, inverse);
    if (args.rows == nullptr) continue;
    head.row(t + i)[0] = space.most[i];
    head.row(t + i)[1] = inverse;
  }
}

// All of one head.
void attention_backward(const AttentionBackward& args, real* reals, int64_t unit) {
  const Head head(args, unit);
  const Space space(reals);
  clear_rows(args.dq + head.query(0), args.T, head);
  for (int64_t s = 0; s < args.S; s += kKeys) differentiate_keys(head, args, space, s, true);
}

// dk and dv of a block of keys of one head.
void attention_of_keys(const AttentionBackward& args, real* reals, int64_t unit) {
  const int64_t blocks = attention_key_blocks(args);
  const Head head(args, unit / blocks);
  differentiate_keys(head, args, Space(reals), unit % blocks * kKeys, false);
}

// dq of a block of queries of one head.
void attention_of_queries(const AttentionBackward& args, real* reals, int64_t unit) {
  const int64_t blocks = attention_query_blocks(args);
  const Head head(args, unit / blocks);
  const Space space(reals);
  const int64_t t = unit % blocks * kQueries, rows = minimum(kQueries, args.T - t);
  clear_rows(args.dq + head.query(t), rows, head);
  for (int64_t s = head.first_block(t); s < head.position(t) + rows; s += kKeys) {
    const Block block(head, space, t, s);
    differentiate(block, args);
    block.add_product(space.dweights, false, args.k + head.key(s), args.dq + head.query(t));
  }
}

// Tokens begin .. end - 1 of all sequences.
void rotary(const Rotary& args, int64_t begin, int64_t end) {
  const int64_t half = args.r / 2, d = args.d;
  const real sign = args.back ? -1 : 1;
  for (int64_t token = begin; token < end; ++token) {
    const real* const cosine = args.turns + token % args.T * args.r;
    const real* const sine = cosine + half;
    for (int64_t h = 0; h < args.H; ++h) {
      const real* const x = args.x + (token * args.H + h) * d;
      real* const y = args.y + (token * args.H + h) * d;
      for_lanes(half, [&](int64_t j, auto lanes) FPRNN_LAMBDA {
        const Vec c = lanes.load(cosine + j), s = sign * lanes.load(sine + j);
        const Vec first = lanes.load(x + j), second = lanes.load(x + half + j);
        lanes.store(y + j, first * c - second * s);
        lanes.store(y + half + j, second * c + first * s);
      });
      for_lanes(d - args.r, [&](int64_t j, auto lanes) FPRNN_LAMBDA {
        lanes.store(y + args.r + j, lanes.load(x + args.r + j));
      });
    }
  }
}

}  // namespace fprnn::FPRNN_ISA
