// Chapter 6: one step whose mixer has full rank, in a Krylov space.
#include <fprnn/core/rng.h>
#include <fprnn/ops/kronecker_solve.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "matrix.h"
#include "program.h"
#include "rms.h"

namespace {

using namespace fprnn;
using learn::deviation, learn::dot, learn::kEps, learn::Matrix, learn::Numbers, learn::print;

// [krylov]
// The space of b, G b, G G b, .. for a matrix of which only products are asked for, by Arnoldi: v has
// its orthonormal vectors, and h is G in their coordinates, but for what the next vector adds.
struct Space {
  std::vector<Numbers> v;
  Matrix h;
};
Space arnoldi(const Matrix& g, const Numbers& b, int most) {
  Space space{{b}, Matrix(most)};
  for (double& value : space.v[0]) value /= std::sqrt(dot(b, b));
  for (int k = 0; k < most; ++k) {
    Numbers next = g * space.v[k];  // the one product of this round
    for (int i = 0; i <= k; ++i) {
      space.h(i, k) = dot(space.v[i], next);
      for (size_t d = 0; d < next.size(); ++d) next[d] -= space.h(i, k) * space.v[i][d];
    }
    if (k + 1 == most) break;
    space.h(k + 1, k) = std::sqrt(dot(next, next));
    for (double& value : next) value /= space.h(k + 1, k);
    space.v.push_back(next);
  }
  return space;
}
// [/krylov]

// Plain steps y <- (b + G y) / sigma in the space's coordinates: w is b + G y in units of |b|.
Numbers solve_in(const Space& space, const Numbers& b) {
  const double length = std::sqrt(dot(b, b)), D = static_cast<double>(std::ssize(b));
  Numbers w(space.v.size(), 0);
  double sigma = 1;
  for (int k = 0; k < 1000; ++k) {
    Numbers next = space.h * w;
    for (double& value : next) value /= sigma;
    next[0] += 1;
    w = next;
    sigma = std::sqrt(length * length * dot(w, w) / D + kEps);
  }
  Numbers y(b.size(), 0);
  for (size_t i = 0; i < w.size(); ++i)
    for (size_t d = 0; d < y.size(); ++d) y[d] += length * w[i] * space.v[i][d] / sigma;
  return y;
}

// The example by hand: G is half of chapter 5's exchange and sign, A is all ones.
void four_channels() {
  Matrix g(4);
  g(0, 2) = g(2, 0) = 0.5, g(1, 3) = g(3, 1) = -0.5;
  const Numbers offset = {1, 1, 1, 1};
  const Space space = arnoldi(g, offset, 2);
  print("v1", space.v[0]);
  print("v2", space.v[1]);
  std::printf("H\n");
  print(space.h);
  const Numbers y = solve_in(space, offset);
  print("y ", y);
}

// I - Q = left^T (x) right of two 8 x 8 factors, and A.
struct KroneckerStep {
  Numbers left, right, offset;
  Matrix full{64};
};
KroneckerStep kronecker_step() {
  const Rng rng{.seed = 9};
  uint64_t next = 0;
  const auto draw = [&] { return 2.0 * static_cast<double>(rng.uniform(next++)) - 1; };
  KroneckerStep step{Numbers(64), Numbers(64), Numbers(64)};
  for (Numbers* values : {&step.left, &step.right})
    for (double& value : *values) value = 0.3 * draw();
  for (double& value : step.offset) value = draw();
  for (int i = 0; i < 64; ++i)
    for (int k = 0; k < 64; ++k)
      step.full(i, k) = step.left[k / 8 * 8 + i / 8] * step.right[k % 8 * 8 + i % 8];
  return step;
}

// [products]
void count_products() {
  const KroneckerStep step = kronecker_step();
  Numbers solution(64, 0);
  for (int k = 0; k < 2000; ++k) {  // plain steps of all 64 channels
    Numbers v = step.full * solution;
    for (int d = 0; d < 64; ++d) v[d] += step.offset[d];
    const double sigma = deviation(v);
    for (int d = 0; d < 64; ++d) solution[d] = v[d] / sigma;
  }
  for (const int m : {1, 2, 4, 6, 8, 12}) {
    const Numbers y = solve_in(arnoldi(step.full, step.offset, m), step.offset);
    std::printf("%2d vectors: y within %.0e of the solution\n", m,
                learn::largest_difference(y, solution));
  }
}
// [/products]

// [library]
void library_krylov() {
  const Context context = Context::cpu();
  const KroneckerStep step = kronecker_step();
  const auto tensor = [&](const Shape& shape, const Numbers& x) {
    return learn::tensor_of(context, shape, x);
  };
  const LocalSolution found = kronecker_solve({.left = tensor({1, 8, 8}, step.left),
                                               .right = tensor({1, 8, 8}, step.right),
                                               .offset = tensor({1, 64}, step.offset),
                                               .gain = tensor({1, 64}, Numbers(64, 1)),
                                               .weight = tensor({64}, Numbers(64, 1))},
                                              real(1e-4), 1000);
  const Numbers ours = solve_in(arnoldi(step.full, step.offset, 24), step.offset);
  const double largest = learn::largest_difference(ours, learn::numbers_of(found.y));
  std::printf("kronecker_solve agrees within 1e-3: %s\n", largest < 1e-3 ? "yes" : "no");
  std::printf("after at most 20 products: %s\n", found.iterations[0] <= 20 ? "yes" : "no");
}
// [/library]

}  // namespace

int main(int argc, char** argv) {
  return learn::run(
      argc, argv,
      {{"four", four_channels}, {"products", count_products}, {"library", library_krylov}});
}
