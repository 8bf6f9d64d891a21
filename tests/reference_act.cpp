// Adaptive computation time, a cell of a token at a time.
#include "reference.h"

#include <cmath>
#include <tuple>

namespace fprnn::reference {

namespace {

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

struct State {
  std::vector<double> h, c;
};

// One cell of sequence b at token t.
State cell(const Act& in, int64_t b, int64_t t, bool first, const State& before) {
  const int64_t H = in.weight->shape[1];
  State after = before;
  for (int64_t d = 0; d < H; ++d) {
    const auto x = [&](int64_t g) {
      return (*in.x)(b, t, g * H + d) + (first ? (*in.flag)(g * H + d) : 0);
    };
    const auto s = [&](int64_t g) {
      double total = in.bias != nullptr ? (*in.bias)(g * H + d) : 0;
      for (int64_t k = 0; k < H; ++k) total += (*in.weight)(g * H + d, k) * before.h[k];
      return total;
    };
    if (in.lstm) {
      after.c[d] =
          logistic(x(1) + s(1)) * before.c[d] + logistic(x(0) + s(0)) * std::tanh(x(2) + s(2));
      after.h[d] = logistic(x(3) + s(3)) * std::tanh(after.c[d]);
    } else {
      const double r = logistic(x(0) + s(0)), z = logistic(x(1) + s(1));
      after.h[d] = (1 - z) * std::tanh(x(2) + r * s(2)) + z * before.h[d];
    }
  }
  return after;
}

// The token's state and ponder cost.
std::pair<State, double> token(const Act& in, int64_t b, int64_t t, State state) {
  const int64_t H = in.weight->shape[1];
  State mean{std::vector<double>(H), std::vector<double>(H)};
  double sum = 0;
  for (int64_t n = 1;; ++n) {
    state = cell(in, b, t, n == 1, state);
    double logit = (*in.halt_bias)(0);
    for (int64_t d = 0; d < H; ++d) logit += (*in.halt_weight)(0, d) * state.h[d];
    const double p = logistic(logit);
    const bool halts = sum + p >= 1 - in.epsilon || n == in.max_steps;
    const double weight = halts ? 1 - sum : p;
    for (int64_t d = 0; d < H; ++d) {
      mean.h[d] += weight * state.h[d];
      mean.c[d] += weight * state.c[d];
    }
    if (halts) return {mean, static_cast<double>(n) + weight};
    sum += p;
  }
}

}  // namespace

std::vector<Array> act(const Act& in) {
  const int64_t B = in.x->shape[0], T = in.x->shape[1], H = in.weight->shape[1];
  Array h(Shape{B, T, H}), c(Shape{B, T, H}), ponder(Shape{B, T});
  for (int64_t b = 0; b < B; ++b) {
    State state{std::vector<double>(H), std::vector<double>(H)};
    for (int64_t d = 0; d < H; ++d) {
      if (in.h0 != nullptr) state.h[d] = (*in.h0)(b, d);
      if (in.c0 != nullptr) state.c[d] = (*in.c0)(b, d);
    }
    for (int64_t t = 0; t < T; ++t) {
      std::tie(state, ponder(b, t)) = token(in, b, t, state);
      for (int64_t d = 0; d < H; ++d) {
        h(b, t, d) = state.h[d];
        c(b, t, d) = state.c[d];
      }
    }
  }
  return in.lstm ? std::vector<Array>{h, c, ponder} : std::vector<Array>{h, ponder};
}

}  // namespace fprnn::reference
