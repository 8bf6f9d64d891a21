// Complex numbers stand as N real and N imaginary parts. Derivation: ops/pd_scan.md.
#include <fprnn/core/vector_math.h>
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

}  // namespace

// rows (count, n) <- their softmax.
void pd_softmax(real* rows, int64_t count, int64_t n) {
  for (; count > 0; --count, rows += n) {
    const real total = exponentials(rows, n);
    for_lanes(n,
              [&](int64_t i, auto lanes) { lanes.store(rows + i, lanes.load(rows + i) / total); });
  }
}

// drows (count, n) <- soft . (drows - sum_i soft_i drows_i).
void pd_softmax_gradient(const real* soft, real* drows, int64_t count, int64_t n) {
  for (; count > 0; --count, soft += n, drows += n) {
    Vec products{};
    for_lanes(n, [&](int64_t i, auto lanes) {
      products += lanes.load(soft + i) * lanes.load(drows + i);
    });
    const real mean = sum(products);
    for_lanes(n, [&](int64_t i, auto lanes) {
      lanes.store(drows + i, lanes.load(soft + i) * (lanes.load(drows + i) - mean));
    });
  }
}

// The first of the largest of each row, 0 where none is larger than the first.
void pd_choose(const real* rows, int32_t* chosen, int64_t count, int64_t n) {
  for (; count > 0; --count, rows += n, ++chosen) {
    const real most = largest_of(rows, n);
    int64_t at = 0;
    while (at + 1 < n && !(rows[at] == most)) ++at;
    *chosen = rows[at] == most ? static_cast<int32_t>(at) : 0;
  }
}

// m (N slots, N candidates) of a token <- the cotangent of M.
void pd_select_cotangent(const real* left, const real* right, real* m, int64_t N) {
  for (int64_t s = 0; s < N; ++s, m += N) {
    const real re = right[s], im = right[N + s];
    const real total = exponentials(m, N);
    Vec products{};
    for_lanes(N, [&](int64_t c, auto lanes) {
      const Vec dp = re * lanes.load(left + c) + im * lanes.load(left + N + c);
      products += lanes.load(m + c) * dp;
    });
    const real mean = sum(products) / total;
    for_lanes(N, [&](int64_t c, auto lanes) {
      const Vec dp = re * lanes.load(left + c) + im * lanes.load(left + N + c);
      lanes.store(m + c, lanes.load(m + c) / total * (dp - mean));
    });
  }
}

// Sequences begin .. end - 1; space (2 N).
void pd_scan_forward(const PdScanForward& args, int64_t begin, int64_t end, real* space) {
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
void pd_scan_backward(const PdScanBackward& args, int64_t begin, int64_t end, real* space) {
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
