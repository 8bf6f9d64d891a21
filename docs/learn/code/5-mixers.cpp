// Chapter 5: what channel mixers can do. Reflections and their products as Householder mixers, the
// same factors added up (DPLR), a Kronecker mixer beside its full matrix, and two groups written as
// products of reflections, which are then followed over long words.
#include <fprnn/core/rng.h>
#include <fprnn/ops/kronecker.h>
#include <fprnn/ops/low_rank.h>
#include <fprnn/tasks/group.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <numbers>

#include "drawing.h"
#include "matrix.h"
#include "program.h"

namespace {

using namespace fprnn;
using learn::dot, learn::Matrix, learn::Numbers;

const Context kContext = Context::cpu({.threads = 1});

Tensor tensor(const Shape& shape, const Numbers& values) {
  return learn::tensor_of(kContext, shape, values);
}

// [matrix]
// The matrix of the library's mixer of factors u_i, all with the same gate: column j is Q e_j.
Matrix matrix_of(const std::vector<Numbers>& factors, double gate, double scale, bool in_order) {
  const int64_t r = std::ssize(factors), D = std::ssize(factors[0]);
  Numbers u, alpha(D * r, gate), basis(D * D, 0);
  for (int64_t j = 0; j < D; ++j) {
    basis[j * D + j] = 1;
    for (const Numbers& factor : factors) u.insert(u.end(), factor.begin(), factor.end());
  }
  const auto mixer = in_order ? householder : dplr;
  const Var columns = mixer(tensor({D, r, D}, u), tensor({D, r}, alpha), tensor({D, D}, basis),
                            static_cast<real>(scale));
  Matrix q(D);
  const Numbers values = learn::numbers_of(columns.value());
  for (int64_t j = 0; j < D; ++j)
    for (int64_t i = 0; i < D; ++i) q(i, j) = values[j * D + i];
  return q;
}
// [/matrix]

const Numbers kU = {0.6, 0.8}, kE = {1, 0};

// [one]
void one_factor() {
  for (const double gate : {0.0, 0.25, 0.5, 1.0}) {
    const Matrix q = matrix_of({kU}, gate, 2, true);
    std::printf("alpha %.2f  determinant %5.2f\n", gate,
                learn::rounded(q(0, 0) * q(1, 1) - q(0, 1) * q(1, 0)));
    print(q);
  }
}
// [/one]

// [two]
void two_factors() {
  const double angle = std::acos(kU[0] * kE[0] + kU[1] * kE[1]);  // between the two
  const Matrix turn = matrix_of({kU, kE}, 1, 2, true);
  std::printf("in order (Householder): a rotation by %.2f degrees, twice %.2f\n",
              std::atan2(turn(1, 0), turn(0, 0)) * 180 / std::numbers::pi,
              angle * 180 / std::numbers::pi);
  print(turn);
  std::printf("added up (DPLR): symmetric, and no rotation\n");
  print(matrix_of({kU, kE}, 1, 2, false));
}
// [/two]

// [kronecker]
void kronecker_mixer() {
  const Numbers left = {0, 1, 1, 0}, right = {1, 0, 0, -1}, v = {1, 2, 3, 4};
  const Var mixed = kronecker({tensor({2, 2}, left), tensor({2, 2}, right)}, tensor({4}, v), 1);
  const Numbers library = learn::numbers_of(mixed.value());
  Matrix q = learn::identity(4);  // row (i, j), column (k, l): the rows of a 2 x 2 matrix in a line
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j)
      for (int k = 0; k < 2; ++k)
        for (int l = 0; l < 2; ++l) q(2 * i + j, 2 * k + l) -= left[2 * k + i] * right[2 * l + j];
  print(q);
  const Numbers full = q * v;
  for (int i = 0; i < 4; ++i)
    std::printf("full matrix %5.2f   library %5.2f\n", full[i], library[i] + 0.0);
}
// [/kronecker]

// [cost]
void cost() {
  constexpr int64_t D = 256;
  const KroneckerSizes sizes = kronecker_sizes(D);
  std::printf("D = %d           rank of I - Q   numbers of a token   multiply-adds\n", int(D));
  for (const int64_t r : {1, 2, 4})
    std::printf("Householder, r %d %15d %20d %15d\n", int(r), int(r), int(r * (D + 1)),
                int(2 * r * D));
  std::printf("Kronecker %2d x %2d %14d %20d %15d\n", int(sizes.m1), int(sizes.m2), int(D),
              int(sizes.triangles() + sizes.m1 + sizes.m2), int(D * (sizes.m1 + sizes.m2)));
  std::printf("a full matrix %18d %20d %15d\n", int(D), int(D * D), int(D * D));
}
// [/cost]

// [simplex]
// n things as the corners of a regular simplex around 0, in n - 1 coordinates: 3 a triangle.
std::vector<Numbers> corners(int n) {
  std::vector<Numbers> corner(n, Numbers(n - 1));
  for (int d = 0; d < n - 1; ++d) {  // in coordinate d thing d is opposed to those after it
    const int rest = n - 1 - d;
    const double height = std::sqrt(double(rest) / (rest + 1));
    corner[d][d] = height;
    for (int i = d + 1; i < n; ++i) corner[i][d] = -height / rest;
  }
  return corner;
}

// The symmetry that moves corner i to corner p(i): sum_i corner_p(i) corner_i^T.
Matrix symmetry(const std::vector<int>& p) {
  const int n = static_cast<int>(p.size());
  const std::vector<Numbers> corner = corners(n);
  Matrix m(n - 1);
  for (int i = 0; i < n; ++i)
    for (int a = 0; a < n - 1; ++a)
      for (int b = 0; b < n - 1; ++b) m(a, b) += corner[p[i]][a] * corner[i][b];
  return m;
}
// [/simplex]

// [peel]
// Unit vectors u_1 .. u_k, as few as there can be, whose reflections in this order make the
// orthogonal matrix m. Each step takes an e that m moves and reflects m e back to e. What m fixed
// before stays: for w = m w, w . (m e - e) = m w . m e - w . e = 0.
std::vector<Numbers> reflections_of(Matrix m) {
  std::vector<Numbers> found;
  for (int d = 0; d < m.n; ++d) {
    Numbers u(m.n);
    double squares = 0;
    for (int i = 0; i < m.n; ++i) {
      u[i] = m(i, d) - (i == d ? 1 : 0);
      squares += u[i] * u[i];
    }
    if (squares < 1e-12) continue;  // m e = e already
    for (double& value : u) value /= std::sqrt(squares);
    m = learn::reflection(u) * m;
    found.insert(found.begin(), u);
  }
  return found;
}
// [/peel]

// [counts]
void count_reflections() {
  for (const char* name : {"S3", "S4", "A5", "S5"}) {
    const Group group = group_named(name);
    std::map<int, int> how_many;
    double worst = 0;
    for (const std::vector<int>& p : group.permutations) {
      const Matrix m = symmetry(p);
      const std::vector<Numbers> factors = reflections_of(m);
      ++how_many[static_cast<int>(factors.size())];
      if (!factors.empty())
        worst = std::max(worst, largest_difference(matrix_of(factors, 1, 2, true), m));
    }
    std::printf("%s in %d dimensions, elements by their number of reflections:", name,
                int(group.permutations[0].size()) - 1);
    for (const auto& [reflections, elements] : how_many)
      std::printf("  %d: %d", reflections, elements);
    std::printf("\n  the library's mixer makes each of them: %s\n", worst < 1e-5 ? "yes" : "no");
  }
}
// [/counts]

// [icosahedron]
// The 15 mirrors of an icosahedron, by their unit normals, and all products of two reflections.
std::vector<Numbers> mirrors() {
  constexpr double g = std::numbers::phi;
  std::vector<Numbers> normals;
  for (int axis = 0; axis < 3; ++axis) {
    Numbers e(3, 0);
    e[axis] = 1;
    normals.push_back(e);
    for (const double s : {-1.0, 1.0})
      for (const double t : {-1.0, 1.0}) {
        Numbers normal(3);
        normal[axis] = 0.5 / g, normal[(axis + 1) % 3] = s * 0.5 * g,
        normal[(axis + 2) % 3] = t * 0.5;
        normals.push_back(normal);
      }
  }
  return normals;
}
std::vector<Matrix> rotations() {
  std::vector<Matrix> found;
  for (const Numbers& first : mirrors())
    for (const Numbers& second : mirrors()) {
      const Matrix m = learn::reflection(second) * learn::reflection(first);
      const auto same = [&](const Matrix& other) { return largest_difference(m, other) < 1e-9; };
      if (std::none_of(found.begin(), found.end(), same)) found.push_back(m);
    }
  return found;
}
// [/icosahedron]

// [five]
// The mirrors form five triples at right angles. The permutation that a rotation makes of them.
std::vector<int> moved_triples(const Matrix& rotation) {
  const std::vector<Numbers> normals = mirrors();
  std::vector<int> triple(normals.size(), -1);
  int triples = 0;
  for (size_t i = 0; i < normals.size(); ++i) {
    if (triple[i] >= 0) continue;
    for (size_t j = 0; j < normals.size(); ++j)
      if (j == i || std::abs(dot(normals[i], normals[j])) < 1e-9) triple[j] = triples;
    ++triples;
  }
  std::vector<int> to(triples);
  for (size_t i = 0; i < normals.size(); ++i)
    for (size_t j = 0; j < normals.size(); ++j)
      if (std::abs(dot(rotation * normals[i], normals[j])) > 1 - 1e-9) to[triple[i]] = triple[j];
  return to;
}

// The rotations in the order of the group's elements: m[a] is element a.
std::vector<Matrix> in_order_of(const Group& group) {
  std::vector<Matrix> m(group.order, Matrix(3));
  for (const Matrix& rotation : rotations()) {
    const auto at =
        std::find(group.permutations.begin(), group.permutations.end(), moved_triples(rotation));
    m[at - group.permutations.begin()] = rotation;
  }
  return m;
}

void icosahedron() {
  const Group a5 = group_named("A5");
  std::printf("mirrors %d, different products of two reflections %d\n", int(mirrors().size()),
              int(rotations().size()));
  const std::vector<Matrix> m = in_order_of(a5);
  int right = 0;
  for (int a = 0; a < a5.order; ++a)
    for (int b = 0; b < a5.order; ++b)
      right += largest_difference(m[a] * m[b], m[a5.product(a, b)]) < 1e-9;
  std::printf("products that agree with the table of A5: %d of %d\n", right, a5.order * a5.order);
}
// [/five]

// [follow]
// Words of A5, read by y <- Q_t y alone, where Q_t is token x_t's rotation, undone, as a Householder
// mixer of rank 2; which of the 60 places y is at says the product.
void follow() {
  constexpr int64_t B = 32, T = 512;
  const Group group = group_named("A5");
  const std::vector<Matrix> m = in_order_of(group);
  const Numbers start = {0.2, 0.5, 0.8426149773};
  std::vector<int> product(B, group.identity);
  Numbers places;
  for (int64_t b = 0; b < B; ++b) places.insert(places.end(), start.begin(), start.end());
  Tensor y = tensor({B, 3}, places);
  const Rng rng{.seed = 5};
  int64_t right = 0;
  for (int64_t t = 0; t < T; ++t) {
    Numbers u, alpha;
    for (int64_t b = 0; b < B; ++b) {
      const int x = static_cast<int>(rng.below(t * B + b, group.order));
      product[b] = group.product(product[b], x);
      std::vector<Numbers> factors = reflections_of(m[x].transposed());
      for (int i = 0; i < 2; ++i) alpha.push_back(factors.empty() ? 0 : 1);
      if (factors.empty()) factors = {start, start};  // the identity: gates of 0
      for (const Numbers& factor : factors) u.insert(u.end(), factor.begin(), factor.end());
    }
    y = householder(tensor({B, 2, 3}, u), tensor({B, 2}, alpha), y, 2).value();
    const Numbers now = learn::numbers_of(y);
    for (int64_t b = 0; b < B; ++b) {
      const Numbers at(now.begin() + b * 3, now.begin() + (b + 1) * 3);
      const auto nearness = [&](int a) { return dot(m[a].transposed() * start, at); };
      int nearest = 0;
      for (int a = 1; a < group.order; ++a)
        if (nearness(a) > nearness(nearest)) nearest = a;
      right += nearest == product[b];
    }
  }
  std::printf("A5, %d words of length %d: %d of %d products right\n", int(B), int(T), int(right),
              int(B * T));
}
// [/follow]

// The triangle, its three mirrors, and the six places of one point: itself, those one reflection
// away, and those two away.
std::string triangle() {
  learn::Drawing drawing(520, 400, "A triangle, its mirrors and the six images of a point");
  const auto at = [](const Numbers& v, double factor = 1) {
    return learn::Spot{190 + 210 * factor * v[0], 200 - 210 * factor * v[1]};
  };
  const std::vector<Numbers> corner = corners(3);
  for (size_t i = 0; i < 3; ++i) {
    drawing.line(at(corner[i]), at(corner[(i + 1) % 3]), learn::Ink::blue);
    drawing.line(at(corner[i], -0.8), at(corner[i], 1.05));
  }
  drawing.text({at(corner[0], 1.05).x + 6, at(corner[0]).y + 4.5}, "a mirror", learn::Anchor::start,
               13, learn::Ink::grey);
  for (const std::vector<int>& p : group_named("S3").permutations) {
    const learn::Spot place = at(symmetry(p) * Numbers{0.42, 0.14});
    switch (reflections_of(symmetry(p)).size()) {
      case 0:
        drawing.dot(place, 6);
        break;
      case 1:
        drawing.ring(place, 6, learn::Ink::orange);
        break;
      default:
        drawing.dot(place, 6, learn::Ink::green);
    }
  }
  const auto legend = [&](double y, const std::string& text) {
    drawing.text({366, y + 4.5}, text, learn::Anchor::start);
  };
  drawing.dot({350, 330}, 6), legend(330, "the start");
  drawing.ring({350, 354}, 6, learn::Ink::orange), legend(354, "one reflection away");
  drawing.dot({350, 378}, 6, learn::Ink::green), legend(378, "two away: rotated");
  return drawing.svg();
}

}  // namespace

int main(int argc, char** argv) {
  return learn::run(argc, argv,
                    {{"one", one_factor},
                     {"two", two_factors},
                     {"kronecker", kronecker_mixer},
                     {"cost", cost},
                     {"counts", count_reflections},
                     {"icosahedron", icosahedron},
                     {"follow", follow}},
                    {{"5-mixers-triangle", triangle}});
}
