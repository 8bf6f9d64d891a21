// Complex numbers stand as N real and N imaginary parts. Derivation: ops/pd_scan.md.
#include <fprnn/ops/chunks.h>
#include <fprnn/ops/pd_scan.h>

namespace fprnn::FPRNN_ISA {

namespace {

FPRNN_INLINE real largest_of(const real* x, int64_t count) {
  real most = x[0];
  int64_t i = 0;
  if (count >= kLanes) {
    Vec top = load(x);
    for (i = kLanes; i + kLanes <= count; i += kLanes) top = larger(load(x + i), top);
    most = largest(top);
  }
  for (; i < count; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

// e_i = exp(x_i - the largest), in place; returns their sum.
FPRNN_INLINE real exponentials(real* x, int64_t count) {
  const real most = largest_of(x, count);
  Vec total{};
  for_lanes(count, [&](int64_t i, auto lanes) {
    const Vec e = exp(lanes.load(x + i) - most);
    lanes.store(x + i, e);
    total += lanes.keep(e);
  });
  return sum(total);
}

// x . y, element by element complex; conjugate: conj(x) . y.
template <bool conjugate>
FPRNN_INLINE void multiply(const real* x, const real* y, real* to, int64_t N) {
  for_lanes(N, [&](int64_t i, auto lanes) {
    const Vec a = lanes.load(x + i), b = lanes.load(x + N + i), c = lanes.load(y + i),
              d = lanes.load(y + N + i);
    lanes.store(to + i, conjugate ? a * c + b * d : a * c - b * d);
    lanes.store(to + N + i, conjugate ? a * d - b * c : a * d + b * c);
  });
}

FPRNN_INLINE void copy(const real* from, real* to, int64_t count) {
  for_lanes(count, [&](int64_t i, auto lanes) { lanes.store(to + i, lanes.load(from + i)); });
}
FPRNN_INLINE void add(const real* from, real* to, int64_t count) {
  for_lanes(count, [&](int64_t i, auto lanes) {
    lanes.store(to + i, lanes.load(to + i) + lanes.load(from + i));
  });
}
// to_i = x_chosen(i), and its transpose, to_chosen(i) += x_i.
FPRNN_INLINE void gather(const real* x, const int32_t* chosen, real* to, int64_t N) {
  for (int64_t i = 0; i < N; ++i) {
    to[i] = x[chosen[i]];
    to[N + i] = x[N + chosen[i]];
  }
}
FPRNN_INLINE void scatter(const real* x, const int32_t* chosen, real* to, int64_t N) {
  for (int64_t i = 0; i < N; ++i) {
    to[chosen[i]] += x[i];
    to[N + chosen[i]] += x[N + i];
  }
}

// The first of the largest; 0 where there is none.
FPRNN_INLINE int64_t first_largest(const real* x, int64_t count) {
  if (count < kLanes) {
    int64_t at = 0;
    for (int64_t i = 1; i < count; ++i) at = x[i] > x[at] ? i : at;
    return at;
  }
  Vec place, top = load(x);  // of each lane: the largest, and where it first was
  for (int64_t i = 0; i < kLanes; ++i) place[i] = static_cast<real>(i);
  const Vec lanes = place;
  for (int64_t at = kLanes; at < count; at += kLanes) {
    const int64_t i = minimum(at, count - kLanes);
    const Vec values = load(x + i);
    place = select(values > top, lanes + static_cast<real>(i), place);
    top = larger(values, top);
  }
  const Vec none = splat(static_cast<real>(count));
  const auto first = static_cast<int64_t>(-largest(-select(top == largest(top), place, none)));
  return first < count ? first : 0;
}

// rows (count, n) <- their softmax.
FPRNN_INLINE void softmax(real* rows, int64_t count, int64_t n) {
  for (; count > 0; --count, rows += n) {
    const real total = exponentials(rows, n);
    for_lanes(n,
              [&](int64_t i, auto lanes) { lanes.store(rows + i, lanes.load(rows + i) / total); });
  }
}

// drows (count, n) <- soft . (drows - sum_i soft_i drows_i).
FPRNN_INLINE void softmax_gradient(const real* soft, real* drows, int64_t count, int64_t n) {
  for (; count > 0; --count, soft += n, drows += n) {
    const real mean = dot(soft, drows, n);
    for_lanes(n, [&](int64_t i, auto lanes) {
      lanes.store(drows + i, lanes.load(soft + i) * (lanes.load(drows + i) - mean));
    });
  }
}

// m (N candidates), of a slot and token, <- its cotangent.
FPRNN_INLINE void slot_cotangent(const real* left, real re, real im, real* m, int64_t N) {
  const real share = 1 / exponentials(m, N);
  Vec products{};
  for_lanes(N, [&](int64_t c, auto lanes) {
    const Vec dp = re * lanes.load(left + c) + im * lanes.load(left + N + c);
    products += lanes.load(m + c) * dp;
  });
  const real mean = sum(products) * share;
  for_lanes(N, [&](int64_t c, auto lanes) {
    const Vec dp = re * lanes.load(left + c) + im * lanes.load(left + N + c);
    lanes.store(m + c, lanes.load(m + c) * (share * (dp - mean)));
  });
}

}  // namespace

// Working space, in reals, of the two below for `count` tokens.
int64_t pd_select_space(int64_t count, int64_t N, int64_t K) {
  const int64_t wider = N > K ? N : K;
  return count * N + product_space(wider > count ? wider : count);
}

// Tokens begin .. begin + count - 1. M of a slot is made for all of them and used while it is in the cache.
void pd_select(const PdSelect& args, int64_t begin, int64_t count, real* space) {
  const int64_t N = args.N, K = args.K;
  real* const pi = args.pi + begin * K;
  int32_t* const chosen = args.chosen + begin * N;
  const Product multiply{space + count * N};
  copy(args.selection + begin * K, pi, count * K);
  softmax(pi, count, K);
  for (int64_t s = 0; s < N; ++s) {
    multiply({pi, K}, {args.dictionary + s * N * K, K, true}, space, N, count, N, K, false);
    for (int64_t t = 0; t < count; ++t)
      chosen[t * N + s] = static_cast<int32_t>(first_largest(space + t * N, N));
  }
}

// Likewise; adds to ddictionary.
void pd_select_backward(const PdSelectBackward& args, int64_t begin, int64_t count,
                        real* ddictionary, real* space) {
  const int64_t N = args.N, K = args.K;
  const real *const pi = args.pi + begin * K, *const left = args.left + begin * 2 * N,
                    *const right = args.right + begin * 2 * N;
  real* const dselection = args.dselection + begin * K;
  const Product multiply{space + count * N};
  for (int64_t s = 0; s < N; ++s) {
    const Matrix slot{args.dictionary + s * N * K, K};
    multiply({pi, K}, transpose_of(slot), space, N, count, N, K, false);
    for (int64_t t = 0; t < count; ++t)
      slot_cotangent(left + t * 2 * N, right[t * 2 * N + s], right[t * 2 * N + N + s],
                     space + t * N, N);
    multiply({space, N}, slot, dselection, K, count, K, N, s > 0);
    multiply({space, N, true}, {pi, K}, ddictionary + s * N * K, K, N, K, count, true);
  }
  softmax_gradient(pi, dselection, count, K);
}

// Sequences begin .. end - 1; space (2 N).
void pd_scan_forward(const PdScanForward& args, real* space, int64_t begin, int64_t end) {
  const int64_t N = args.N;
  for (int64_t i = begin; i < end; ++i) {
    const real* before = args.h0 + i * 2 * N;
    for (int64_t t = i * args.T; t < (i + 1) * args.T; ++t) {
      const real* const d = args.d + t * 2 * N;
      const int32_t* const chosen = args.chosen + t * N;
      real* const h = args.h + t * 2 * N;
      if (args.one_hot == OneHot::column) {
        multiply<false>(d, before, space, N);
        copy(args.b + t * 2 * N, h, 2 * N);
        scatter(space, chosen, h, N);
      } else {
        gather(before, chosen, space, N);
        multiply<false>(d, space, h, N);
        add(args.b + t * 2 * N, h, 2 * N);
      }
      before = h;
    }
  }
}

// Likewise.
void pd_scan_backward(const PdScanBackward& args, real* space, int64_t begin, int64_t end) {
  const PdScanForward& in = args.forward;
  const int64_t N = in.N;
  for (int64_t i = begin; i < end; ++i) {
    real* const carried = args.dh0 + i * 2 * N;
    for_lanes(2 * N, [&](int64_t j, auto lanes) { lanes.store(carried + j, Vec{}); });
    for (int64_t t = (i + 1) * in.T - 1; t >= i * in.T; --t) {
      const int64_t at = t * 2 * N;
      const real* const before = t > i * in.T ? in.h + at - 2 * N : in.h0 + i * 2 * N;
      const real* const d = in.d + at;
      const int32_t* const chosen = in.chosen + t * N;
      real* const z = args.db + at;
      copy(args.dh + at, z, 2 * N);
      add(carried, z, 2 * N);
      if (in.one_hot == OneHot::column) {
        gather(z, chosen, space, N);
        multiply<true>(before, space, args.dd + at, N);
        multiply<true>(d, space, carried, N);
        multiply<false>(d, before, args.moved + at, N);
      } else {
        gather(before, chosen, space, N);
        multiply<true>(space, z, args.dd + at, N);
        multiply<true>(d, z, args.moved + at, N);
        for_lanes(2 * N, [&](int64_t j, auto lanes) { lanes.store(carried + j, Vec{}); });
        scatter(args.moved + at, chosen, carried, N);
      }
    }
  }
}

}  // namespace fprnn::FPRNN_ISA
