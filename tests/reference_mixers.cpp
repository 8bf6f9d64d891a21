// The channel mixers: householder, dplr and kronecker.
#include "reference.h"

#include <cmath>

namespace fprnn::reference {

namespace {

// Q v token by token; in_order: each factor meets the result of the one before it, else all meet v.
Array low_rank(const Array& u, const Array& alpha, const Array& v, double scale, bool in_order) {
  const int64_t r = u.shape[-2], D = u.shape[-1];
  Array y = v;
  for (int64_t token = 0; token < v.shape.elements_before(-1); ++token)
    for (int64_t i = 0; i < r; ++i) {
      const double* unit = u.data.data() + (token * r + i) * D;
      const double* met = (in_order ? y : v).data.data() + token * D;
      double dot = 0;
      for (int64_t d = 0; d < D; ++d) dot += unit[d] * met[d];
      for (int64_t d = 0; d < D; ++d)
        y.data[token * D + d] -= scale * alpha.data[token * r + i] * dot * unit[d];
    }
  return y;
}

using Vector = std::vector<double>;

double dot(const Vector& x, const Vector& y) {
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i) total += x[i] * y[i];
  return total;
}

Vector normalized(Vector x, double eps) {
  const double length = std::max(std::sqrt(dot(x, x)), eps);
  for (double& value : x) value /= length;
  return x;
}

Vector times(const Array& matrix, const Vector& x) {
  Vector y(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t j = 0; j < x.size(); ++j) y[i] += matrix(int64_t(i), int64_t(j)) * x[j];
  return y;
}

// E E^T for the upper triangle E whose rows are at k, one after the other.
Array gram(const double* k, int64_t m) {
  Array e(Shape{m, m}), product(Shape{m, m});
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = i; j < m; ++j) e(i, j) = *k++;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < m; ++j)
      for (int64_t l = 0; l < m; ++l) product(i, j) += e(i, l) * e(j, l);
  return product;
}

void normalize_rows(Array& matrix, double eps) {
  const int64_t m = matrix.shape[0];
  for (int64_t i = 0; i < m; ++i) {
    double squares = 0;
    for (int64_t j = 0; j < m; ++j) squares += matrix(i, j) * matrix(i, j);
    for (int64_t j = 0; j < m; ++j) matrix(i, j) /= std::max(std::sqrt(squares), eps);
  }
}

// Divides by sigma + eps, sigma the largest eigenvalue that eight power iterations find.
void normalize_spectrum(Array& matrix, double eps) {
  const int64_t m = matrix.shape[0];
  Vector u(m), v(m, 1 / std::sqrt(double(m)));
  for (int iteration = 0; iteration < 8; ++iteration) {
    u = normalized(times(matrix, v), eps);
    v = normalized(times(matrix, u), eps);
  }
  const double sigma = dot(u, times(matrix, v));
  for (double& value : matrix.data) value /= sigma + eps;
}

Array bounded_gram(const double* k, int64_t m, KroneckerNorm norm, double eps) {
  Array matrix = gram(k, m);
  if (norm.rows) normalize_rows(matrix, eps);
  if (norm.spectral) normalize_spectrum(matrix, eps);
  return matrix;
}

}  // namespace

Array householder(const Array& u, const Array& alpha, const Array& v, double scale) {
  return low_rank(u, alpha, v, scale, true);
}

Array dplr(const Array& u, const Array& alpha, const Array& v, double scale) {
  return low_rank(u, alpha, v, scale, false);
}

std::pair<Array, Array> kronecker_factors(const Array& k, const Array& gates, int64_t m1,
                                          int64_t m2, KroneckerNorm norm, double eps) {
  const Shape leading = k.shape.without(-1);
  Array left(leading.appended(m1).appended(m1)), right(leading.appended(m2).appended(m2));
  for (int64_t token = 0; token < leading.elements(); ++token) {
    const double* triangles = k.data.data() + token * k.shape[-1];
    const double* g = gates.data.data() + token * (m1 + m2);
    const Array k1 = bounded_gram(triangles, m1, norm, eps);
    const Array k2 = bounded_gram(triangles + m1 * (m1 + 1) / 2, m2, norm, eps);
    // left = diag(g_1) K_1 and right = (diag(g_2) K_2)^T.
    for (int64_t i = 0; i < m1; ++i)
      for (int64_t j = 0; j < m1; ++j) left.data[(token * m1 + i) * m1 + j] = g[i] * k1(i, j);
    for (int64_t i = 0; i < m2; ++i)
      for (int64_t j = 0; j < m2; ++j) right.data[(token * m2 + i) * m2 + j] = g[m1 + j] * k2(j, i);
  }
  return {left, right};
}

Array kronecker(const Array& left, const Array& right, const Array& v, double scale) {
  const int64_t m1 = left.shape[-1], m2 = right.shape[-1];
  Array y = v;
  for (int64_t token = 0; token < v.shape.elements_before(-1); ++token) {
    const double* l = left.data.data() + token * m1 * m1;
    const double* r = right.data.data() + token * m2 * m2;
    const double* x = v.data.data() + token * m1 * m2;
    // y_ij = x_ij - scale sum_l (sum_k left_ki x_kl) right_lj.
    for (int64_t i = 0; i < m1; ++i)
      for (int64_t column = 0; column < m2; ++column) {
        double met = 0;
        for (int64_t row = 0; row < m1; ++row) met += l[row * m1 + i] * x[row * m2 + column];
        for (int64_t j = 0; j < m2; ++j)
          y.data[token * m1 * m2 + i * m2 + j] -= scale * met * r[column * m2 + j];
      }
  }
  return y;
}

}  // namespace fprnn::reference
