#include "reference.h"

#include <cmath>

namespace fprnn::reference {

namespace {

// x (..., D) as (rows, D).
Array as_rows(const Array& x) {
  return reshape(x, Shape{x.shape.elements_before(-1), x.shape[-1]});
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double softplus_of(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// Calls visit(index, position) for every element of the shape in order.
template <class Visit>
void for_elements(const Shape& shape, const Visit& visit) {
  std::vector<int64_t> index(shape.rank());
  for (int64_t position = 0; position < shape.elements(); ++position) {
    visit(index, position);
    for (int axis = shape.rank() - 1; axis >= 0 && ++index[axis] == shape[axis]; --axis)
      index[axis] = 0;
  }
}

// Where the element at `index` of a larger shape comes from: axes are aligned at the last one, and
// those of size 1 repeat.
int64_t broadcast_position(const Shape& from, const std::vector<int64_t>& index) {
  const int missing = static_cast<int>(index.size()) - from.rank();
  int64_t position = 0;
  for (int axis = 0; axis < from.rank(); ++axis)
    position = position * from[axis] + (from[axis] == 1 ? 0 : index[missing + axis]);
  return position;
}

Shape broadcast_shape(const Shape& a, const Shape& b) {
  Shape out = a.rank() >= b.rank() ? a : b;
  const Shape& other = a.rank() >= b.rank() ? b : a;
  for (int axis = -1; axis >= -other.rank(); --axis)
    if (out[axis] == 1) out = out.with(axis, other[axis]);
  return out;
}

template <class Function>
Array combine(const Array& a, const Array& b, const Function& function) {
  Array out(broadcast_shape(a.shape, b.shape));
  for_elements(out.shape, [&](const std::vector<int64_t>& index, int64_t position) {
    out.data[position] = function(a.data[broadcast_position(a.shape, index)],
                                  b.data[broadcast_position(b.shape, index)]);
  });
  return out;
}

}  // namespace

Array reshape(const Array& x, const Shape& shape) { return {shape, x.data}; }

Array exp(const Array& x) {
  return map(x, [](double v) { return std::exp(v); });
}
Array sigmoid(const Array& x) { return map(x, logistic); }
Array silu(const Array& x) {
  return map(x, [](double v) { return v * logistic(v); });
}
Array softplus(const Array& x) { return map(x, softplus_of); }
Array tanh(const Array& x) {
  return map(x, [](double v) { return std::tanh(v); });
}
Array square(const Array& x) {
  return map(x, [](double v) { return v * v; });
}
Array affine(const Array& x, double scale, double shift) {
  return map(x, [=](double v) { return scale * v + shift; });
}

Array add(const Array& a, const Array& b) {
  return combine(a, b, [](double x, double y) { return x + y; });
}
Array sub(const Array& a, const Array& b) {
  return combine(a, b, [](double x, double y) { return x - y; });
}
Array mul(const Array& a, const Array& b) {
  return combine(a, b, [](double x, double y) { return x * y; });
}
Array div(const Array& a, const Array& b) {
  return combine(a, b, [](double x, double y) { return x / y; });
}

Array sum(const Array& x) {
  Array y{Shape{}};
  for (const double value : x.data) y.data[0] += value;
  return y;
}

Array sum(const Array& x, int axis) {
  const int64_t outer = x.shape.elements_before(axis), inner = x.shape.elements_after(axis);
  const int64_t size = x.shape[axis];
  Array y(x.shape.without(axis));
  for (int64_t i = 0; i < outer; ++i)
    for (int64_t j = 0; j < size; ++j)
      for (int64_t k = 0; k < inner; ++k)
        y.data[i * inner + k] += x.data[(i * size + j) * inner + k];
  return y;
}

Array mean(const Array& x) { return affine(sum(x), 1.0 / x.shape.elements(), 0); }
Array mean(const Array& x, int axis) { return affine(sum(x, axis), 1.0 / x.shape[axis], 0); }

Array broadcast_to(const Array& x, const Shape& shape) {
  Array y(shape);
  for_elements(shape, [&](const std::vector<int64_t>& index, int64_t position) {
    y.data[position] = x.data[broadcast_position(x.shape, index)];
  });
  return y;
}

Array sum_to(const Array& x, const Shape& shape) {
  Array y(shape);
  for_elements(x.shape, [&](const std::vector<int64_t>& index, int64_t position) {
    y.data[broadcast_position(shape, index)] += x.data[position];
  });
  return y;
}

Array concat(const std::vector<Array>& parts, int axis) {
  int64_t total = 0;
  for (const Array& part : parts) total += part.shape[axis];
  Array y(parts[0].shape.with(axis, total));
  const int64_t inner = y.shape.elements_after(axis);
  int64_t begin = 0;
  for (const Array& part : parts) {
    const int64_t length = part.shape[axis] * inner;
    for (int64_t i = 0; i < part.shape.elements(); ++i)
      y.data[i / length * total * inner + begin + i % length] = part.data[i];
    begin += length;
  }
  return y;
}

Array slice(const Array& x, int axis, int64_t begin, int64_t end) {
  Array y(x.shape.with(axis, end - begin));
  const int64_t inner = y.shape.elements_after(axis), length = (end - begin) * inner;
  for (int64_t i = 0; i < y.shape.elements(); ++i)
    y.data[i] = x.data[i / length * x.shape[axis] * inner + begin * inner + i % length];
  return y;
}

Array shift(const Array& x, const Array* first) {
  Array y(x.shape);
  const int64_t B = x.shape[0], T = x.shape[1], D = x.shape[2];
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t d = 0; d < D; ++d)
        y(b, t, d) = t > 0 ? x(b, t - 1, d) : first != nullptr ? (*first)(b, d) : 0;
  return y;
}

Array embedding(const Array& table, const std::vector<int32_t>& tokens, const Shape& shape) {
  const int64_t D = table.shape[1];
  Array y(shape.appended(D));
  for (size_t i = 0; i < tokens.size(); ++i)
    for (int64_t d = 0; d < D; ++d) y.data[i * D + d] = table(tokens[i], d);
  return y;
}

Array matmul(const Array& a, const Array& b, bool transpose_a, bool transpose_b) {
  const Array rows = as_rows(a);
  const int64_t M = rows.shape[transpose_a ? 1 : 0], K = rows.shape[transpose_a ? 0 : 1];
  const int64_t N = b.shape[transpose_b ? 0 : 1];
  Array c(Shape{M, N});
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      double total = 0;
      for (int64_t k = 0; k < K; ++k)
        total += (transpose_a ? rows(k, m) : rows(m, k)) * (transpose_b ? b(n, k) : b(k, n));
      c(m, n) = total;
    }
  return transpose_a ? c : reshape(c, a.shape.with(-1, N));
}

Array batched_matmul(const Array& a, const Array& b, bool transpose_a, bool transpose_b) {
  const int64_t G = a.shape.elements_before(-2);
  const Shape a_one{a.shape[-2], a.shape[-1]}, b_one{b.shape[-2], b.shape[-1]};
  const int64_t M = a_one[transpose_a ? 1 : 0], N = b_one[transpose_b ? 0 : 1];
  Array c(a.shape.with(-2, M).with(-1, N));
  for (int64_t g = 0; g < G; ++g) {
    const double* from_a = a.data.data() + g * a_one.elements();
    const double* from_b = b.data.data() + g * b_one.elements();
    const Array product =
        matmul({a_one, {from_a, from_a + a_one.elements()}},
               {b_one, {from_b, from_b + b_one.elements()}}, transpose_a, transpose_b);
    std::copy(product.data.begin(), product.data.end(), c.data.begin() + g * M * N);
  }
  return c;
}

Array add_outer(const Array& h, const Array& u, const Array& v) {
  const int64_t M = h.shape[-2], N = h.shape[-1];
  Array out = h;
  for (int64_t row = 0; row < u.shape.elements(); ++row)
    for (int64_t n = 0; n < N; ++n) out.data[row * N + n] += u.data[row] * v.data[row / M * N + n];
  return out;
}

Array linear(const Array& x, const Array& weight, const Array* bias) {
  Array y =
      matmul(reshape(x, x.shape.rank() > 1 ? x.shape : Shape{1, x.shape[0]}), weight, false, true);
  if (bias != nullptr) y = add(y, *bias);
  return reshape(y, x.shape.with(-1, weight.shape[0]));
}

Array block_linear(const Array& x, const Array& weight) {
  const int64_t N = weight.shape[0], O = weight.shape[1], I = weight.shape[2];
  const int64_t tokens = x.shape.elements_before(-1);
  const Array rows = reshape(x, Shape{tokens, N, I});
  Array y(Shape{tokens, N, O});
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < N; ++j)
      for (int64_t o = 0; o < O; ++o)
        for (int64_t i = 0; i < I; ++i) y(t, j, o) += weight(j, o, i) * rows(t, j, i);
  return reshape(y, x.shape.with(-1, N * O));
}

Array weight_norm(const Array& magnitude, const Array& direction) {
  Array weight = direction;
  const int64_t N = direction.shape[0], K = direction.shape[1];
  for (int64_t n = 0; n < N; ++n) {
    double squares = 0;
    for (int64_t k = 0; k < K; ++k) squares += direction(n, k) * direction(n, k);
    for (int64_t k = 0; k < K; ++k) weight(n, k) *= magnitude(n, 0) / std::sqrt(squares);
  }
  return weight;
}

Array layer_norm(const Array& x, const Array& weight, const Array& bias, double eps) {
  Array y = as_rows(x);
  const int64_t rows = y.shape[0], D = y.shape[1];
  for (int64_t i = 0; i < rows; ++i) {
    double mean = 0, variance = 0;
    for (int64_t d = 0; d < D; ++d) mean += y(i, d) / D;
    for (int64_t d = 0; d < D; ++d) variance += (y(i, d) - mean) * (y(i, d) - mean) / D;
    for (int64_t d = 0; d < D; ++d)
      y(i, d) = weight(d) * (y(i, d) - mean) / std::sqrt(variance + eps) + bias(d);
  }
  return reshape(y, x.shape);
}

Array rms_norm(const Array& x, const Array& weight, double eps) {
  Array y = as_rows(x);
  const int64_t rows = y.shape[0], D = y.shape[1];
  for (int64_t i = 0; i < rows; ++i) {
    double mean_square = 0;
    for (int64_t d = 0; d < D; ++d) mean_square += y(i, d) * y(i, d) / D;
    for (int64_t d = 0; d < D; ++d) y(i, d) *= weight(d) / std::sqrt(mean_square + eps);
  }
  return reshape(y, x.shape);
}

Array l2_normalize(const Array& x, double eps) {
  Array y = as_rows(x);
  const int64_t rows = y.shape[0], D = y.shape[1];
  for (int64_t i = 0; i < rows; ++i) {
    double squares = 0;
    for (int64_t d = 0; d < D; ++d) squares += y(i, d) * y(i, d);
    for (int64_t d = 0; d < D; ++d) y(i, d) /= std::max(std::sqrt(squares), eps);
  }
  return reshape(y, x.shape);
}

Array causal_conv(const Array& x, const Array& weight, const Array* bias, const Array* state) {
  Array y(x.shape);
  const int64_t B = x.shape[0], T = x.shape[1], D = x.shape[2], W = weight.shape[1];
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t d = 0; d < D; ++d) {
        double total = bias != nullptr ? (*bias)(d) : 0;
        for (int64_t w = 0; w < W; ++w) {
          const int64_t from = t - (W - 1) + w;
          if (from >= 0) total += weight(d, w) * x(b, from, d);
          if (from < 0 && state != nullptr) total += weight(d, w) * (*state)(b, from + W - 1, d);
        }
        y(b, t, d) = total;
      }
  return y;
}

Array conv_state(const Array& x, int64_t width, const Array* state) {
  const Array before = state != nullptr ? *state : Array(Shape{x.shape[0], width - 1, x.shape[2]});
  return slice(concat({before, x}, 1), 1, x.shape[1], x.shape[1] + width - 1);
}

Array scan(const Array& a, const Array& b, const Array* h0, bool reverse) {
  Array h(a.shape);
  const int64_t B = a.shape[0], T = a.shape[1], D = a.shape[2];
  for (int64_t s = 0; s < B; ++s)
    for (int64_t d = 0; d < D; ++d) {
      double state = h0 != nullptr ? (*h0)(s, d) : 0;
      for (int64_t step = 0; step < T; ++step) {
        const int64_t t = reverse ? T - 1 - step : step;
        h(s, t, d) = state = a(s, t, d) * state + b(s, t, d);
      }
    }
  return h;
}

std::pair<Array, Array> selective_scan(const SelectiveScan& in) {
  const int64_t B = in.u->shape[0], T = in.u->shape[1], D = in.u->shape[2], N = in.a->shape[1];
  Array y(in.u->shape), state(Shape{B, D, N});
  if (in.h0 != nullptr) state = *in.h0;
  for (int64_t s = 0; s < B; ++s)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t d = 0; d < D; ++d) {
        const double u = (*in.u)(s, t, d);
        const double raw =
            (*in.delta)(s, t, d) + (in.delta_bias != nullptr ? (*in.delta_bias)(d) : 0);
        const double dt = in.softplus ? softplus_of(raw) : raw;
        const double keep = in.keep != nullptr ? (*in.keep)(s, t) : 1;
        double total = in.skip != nullptr ? (*in.skip)(d)*u : 0;
        for (int64_t n = 0; n < N; ++n) {
          double& h = state(s, d, n);
          const double e = std::exp(dt * (*in.a)(d, n));
          h = keep * (in.negative ? 2 * e - 1 : e) * h + dt * u * (*in.b)(s, t, n);
          total += h * (*in.c)(s, t, n);
        }
        y(s, t, d) = total;
      }
  return {y, state};
}

Array masked_cross_entropy(const Array& logits, const std::vector<int32_t>& targets,
                           const std::vector<double>& mask, double smoothing) {
  const Array rows = as_rows(logits);
  const int64_t V = rows.shape[1];
  double total = 0, total_mask = 0;
  for (int64_t i = 0; i < rows.shape[0]; ++i) {
    total_mask += mask[i];
    if (mask[i] == 0) continue;
    double largest = rows(i, 0), sum = 0;
    for (int64_t v = 0; v < V; ++v) largest = std::max(largest, rows(i, v));
    for (int64_t v = 0; v < V; ++v) sum += std::exp(rows(i, v) - largest);
    double wanted = (1 - smoothing) * rows(i, targets[i]);
    for (int64_t v = 0; v < V; ++v) wanted += smoothing / V * rows(i, v);
    total += mask[i] * (largest + std::log(sum) - wanted);
  }
  return {Shape{}, {total / total_mask}};
}

}  // namespace fprnn::reference
