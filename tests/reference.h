// The truth that the ops are tested against: every op as plain loops in double precision, written
// from its formula and sharing nothing with the kernels.
#pragma once

#include <fprnn/core/shape.h>

#include <utility>
#include <vector>

namespace fprnn::reference {

struct Array {
  Shape shape;
  std::vector<double> data;

  Array() = default;
  explicit Array(const Shape& shape) : shape(shape), data(shape.elements()) {}
  Array(const Shape& shape, std::vector<double> data) : shape(shape), data(std::move(data)) {}

  // Element (i, j, ...), as many numbers as axes.
  template <class... Index>
  double& operator()(Index... index) {
    return data[offset({int64_t{index}...})];
  }
  template <class... Index>
  double operator()(Index... index) const {
    return data[offset({int64_t{index}...})];
  }

 private:
  size_t offset(std::initializer_list<int64_t> index) const {
    int64_t at = 0;
    const int64_t* size = shape.sizes().data();
    for (const int64_t i : index) at = at * *size++ + i;
    return static_cast<size_t>(at);
  }
};

// The same elements under another shape.
Array reshape(const Array& x, const Shape& shape);

// Of one element: elementwise.
template <class Function>
Array map(Array x, const Function& function) {
  for (double& value : x.data) value = function(value);
  return x;
}
Array exp(const Array& x);
Array sigmoid(const Array& x);
Array silu(const Array& x);
Array softplus(const Array& x);
Array tanh(const Array& x);
Array square(const Array& x);
Array affine(const Array& x, double scale, double shift);

// Of two, with broadcasting.
Array add(const Array& a, const Array& b);
Array sub(const Array& a, const Array& b);
Array mul(const Array& a, const Array& b);
Array div(const Array& a, const Array& b);

// Sums, means and repetition.
Array sum(const Array& x);
Array sum(const Array& x, int axis);
Array mean(const Array& x);
Array mean(const Array& x, int axis);
Array broadcast_to(const Array& x, const Shape& shape);
Array sum_to(const Array& x, const Shape& shape);

// Layout.
Array concat(const std::vector<Array>& parts, int axis);
Array slice(const Array& x, int axis, int64_t begin, int64_t end);
Array shift(const Array& x, const Array* first);
Array embedding(const Array& table, const std::vector<int32_t>& tokens, const Shape& shape);

// Products. matmul: a (..., M, K) or, transposed, (K, M).
Array matmul(const Array& a, const Array& b, bool transpose_a, bool transpose_b);
Array batched_matmul(const Array& a, const Array& b, bool transpose_a, bool transpose_b);
Array add_outer(const Array& h, const Array& u, const Array& v);
Array linear(const Array& x, const Array& weight, const Array* bias);
Array block_linear(const Array& x, const Array& weight);
Array weight_norm(const Array& magnitude, const Array& direction);

// Norms over the last axis.
Array layer_norm(const Array& x, const Array& weight, const Array& bias, double eps);
Array rms_norm(const Array& x, const Array& weight, double eps);
Array l2_normalize(const Array& x, double eps);

// Recurrences and convolution.
Array causal_conv(const Array& x, const Array& weight, const Array* bias, const Array* state);
Array conv_state(const Array& x, int64_t width, const Array* state);
Array scan(const Array& a, const Array& b, const Array* h0, bool reverse);

struct SelectiveScan {
  const Array *u, *delta, *a, *b, *c;
  const Array* skip = nullptr;
  const Array* delta_bias = nullptr;
  const Array* h0 = nullptr;
  const Array* keep = nullptr;
  bool softplus = true;
  bool negative = false;
};
std::pair<Array, Array> selective_scan(const SelectiveScan& in);  // y and the last state

// x (B, T, G H), weight (G H, H), bias (G H), h0 and c0 (B, H).
struct Recurrent {
  const Array *x, *weight;
  const Array* bias = nullptr;
  const Array* h0 = nullptr;
  const Array* c0 = nullptr;
};
std::pair<Array, Array> lstm(const Recurrent& in);  // h and c of every step
Array gru(const Recurrent& in);                     // h of every step

// x (B, T, G H), flag (G H), halt_weight (1, H), halt_bias (1); h, c of an lstm, and ponder costs.
struct Act {
  bool lstm;
  const Array *x, *flag, *weight, *halt_weight, *halt_bias;
  const Array* bias = nullptr;
  const Array* h0 = nullptr;
  const Array* c0 = nullptr;
  double epsilon;
  int64_t max_steps;
};
std::vector<Array> act(const Act& in);

// Numbers of d, b and h0 are N real parts, then N imaginary parts.
struct PdScan {
  const Array *selection, *dictionary, *d, *b;
  const Array* h0 = nullptr;
  bool row;
};
Array pd_scan(const PdScan& in);

struct SsdScan {
  const Array *x, *dt, *a, *b, *c;
  const Array* skip = nullptr;
  const Array* dt_bias = nullptr;
  const Array* h0 = nullptr;
  bool softplus = true, negative = false;
  double dt_min = -1e300, dt_max = 1e300;
};
std::pair<Array, Array> ssd_scan(const SsdScan& in);

struct DeltaRule {
  const Array *q, *k, *v, *beta;
  const Array* g = nullptr;
  const Array* state = nullptr;
  double scale = 1;
};
std::pair<Array, Array> delta_rule(const DeltaRule& in);  // o and the last state

struct Attention {
  const Array *q, *k, *v;
  std::vector<double> slopes = {};    // of heads; empty: 0
  std::vector<int64_t> windows = {};  // likewise
  double scale = 1;
};
Array attention(const Attention& in);
Array rotary(const Array& x, int64_t r, double base, int64_t first);

struct Mlstm {
  const Array *q, *k, *v, *igate, *fgate;
  const Array *c = nullptr, *n = nullptr, *m = nullptr;
  double nothing = 0;  // m without a state
  double eps = 0;
};
std::vector<Array> mlstm(const Mlstm& in);  // h, and the last c, n and m

struct Slstm {
  const Array *x, *weight;
  const Array* bias = nullptr;
  const Array *h = nullptr, *c = nullptr, *n = nullptr, *m = nullptr;
  double nothing = 0;  // m without a state
};
std::vector<Array> slstm(const Slstm& in);  // h of every step, and the last c, n and m

// Channel mixers.
Array householder(const Array& u, const Array& alpha, const Array& v, double scale);
Array dplr(const Array& u, const Array& alpha, const Array& v, double scale);

struct KroneckerNorm {
  bool rows, spectral;
};
std::pair<Array, Array> kronecker_factors(const Array& k, const Array& gates, int64_t m1,
                                          int64_t m2, KroneckerNorm norm, double eps);
Array kronecker(const Array& left, const Array& right, const Array& v, double scale);

// Loss.
Array masked_cross_entropy(const Array& logits, const std::vector<int32_t>& targets,
                           const std::vector<double>& mask, double smoothing = 0);

}  // namespace fprnn::reference
