// Chapter 2: what a diagonal recurrence cannot do.
#include <fprnn/core/rng.h>
#include <fprnn/tasks/group.h>

#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "drawing.h"
#include "matrix.h"
#include "program.h"

namespace {

using fprnn::Group, fprnn::group_named;
using learn::Matrix, learn::Numbers, learn::print;

// [parity]
// One number of state: 1 after an even number of ones, -1 after an odd one.
Numbers parity(const std::vector<int>& bits) {
  Numbers h;
  double state = 1;
  for (const int bit : bits) {
    const double a = bit == 1 ? -1 : 1;
    state = a * state;
    h.push_back(state);
  }
  return h;
}
// [/parity]

void print_parity() {
  print("bits ", {1, 0, 1, 1, 0, 1});
  print("state", parity({1, 0, 1, 1, 0, 1}));
}

// [fade]
// The states of h_t = a h_{t-1} + b after T - 1 ones and after T of them: how far apart are they?
double gap(double a, double b, int T) {
  double before = 0, state = 0;
  for (int t = 0; t < T; ++t) {
    before = state;
    state = a * state + b;
  }
  return std::abs(state - before);
}
// [/fade]

void print_fade() {
  std::printf("  T   a = 0.5   a = 0.9  a = 0.99    a = -1\n");
  for (const int T : {1, 8, 64, 512})
    std::printf("%3d %9.1e %9.1e %9.1e %9.1e\n", T, gap(0.5, 1, T), gap(0.9, 1, T), gap(0.99, 1, T),
                gap(-1, 1, T));
}

// [centres]
// Two reflections of the line, h -> -h about 0 and h -> 2 - h about 1, in turns.
void print_centres() {
  Numbers states;
  double state = 0.25;
  for (int pair = 0; pair < 6; ++pair) {
    state = -state;
    state = 2 - state;
    states.push_back(state);
  }
  print("after 1, 2, .. pairs", states);
}
// [/centres]

// [cups]
// The matrix of a permutation: place i gets what lay at place p[i].
Matrix matrix_of(const std::vector<int>& p) {
  Matrix matrix(std::ssize(p));
  for (size_t i = 0; i < p.size(); ++i) matrix(i, p[i]) = 1;
  return matrix;
}

void print_cups() {
  const Matrix left = matrix_of({1, 0, 2}), right = matrix_of({0, 2, 1});  // two swaps
  const Numbers cups = {1, 2, 3};
  print("cups                  ", cups);
  print("left pair, then right ", right * (left * cups));
  print("right pair, then left ", left * (right * cups));
}
// [/cups]

// [mirror]
void print_mirror() {
  const double half = std::sqrt(0.5);
  const Matrix swap = learn::reflection({half, -half});  // I - 2 u u^T
  print("first row ", {swap(0, 0), swap(0, 1)});
  print("second row", {swap(1, 0), swap(1, 1)});
  print("(3, 1) becomes", swap * Numbers{3, 1});
}
// [/mirror]

// [words]
// Follows words of a group by a dense recurrence h_t = M(x_t) h_{t-1}, with the cups 0, 1, .. as the first
// state; returns how many of all products it has right, by the group's own table.
int followed(const Group& group, int words, int T) {
  const fprnn::Rng rng{.seed = 1};
  int right = 0;
  for (int word = 0; word < words; ++word) {
    Numbers h;
    for (size_t i = 0; i < group.permutations[0].size(); ++i) h.push_back(static_cast<double>(i));
    int product = group.identity;
    for (int t = 0; t < T; ++t) {
      const int x = static_cast<int>(rng.below(word * T + t, group.order));
      h = matrix_of(group.permutations[x]) * h;
      product = group.product(product, x);
      const std::vector<int>& places = group.permutations[product];
      right += h == Numbers(places.begin(), places.end());
    }
  }
  return right;
}
// [/words]

void print_words() {
  for (const char* name : {"S3", "A5", "S5"})
    std::printf("%s: %d of %d products\n", name, followed(group_named(name), 100, 512), 100 * 512);
}

// [commuting]
// The subgroup that these elements generate: all products of them.
std::set<int> generated(const Group& group, const std::set<int>& elements) {
  std::set<int> all = {group.identity};
  std::vector<int> to_do = {group.identity};
  while (!to_do.empty()) {
    const int a = to_do.back();
    to_do.pop_back();
    for (const int b : elements)
      if (all.insert(group.product(a, b)).second) to_do.push_back(group.product(a, b));
  }
  return all;
}

// The subgroup of all a b a^-1 b^-1: what is left to know once one knows only what commutes.
std::set<int> commutators(const Group& group, const std::set<int>& of) {
  const auto inverse = [&](int a) {
    int b = 0;
    while (group.product(a, b) != group.identity) ++b;
    return b;
  };
  std::set<int> found;
  for (const int a : of)
    for (const int b : of)
      found.insert(group.product(group.product(a, b), group.product(inverse(a), inverse(b))));
  return generated(group, found);
}
// [/commuting]

void print_commuting() {
  for (const char* name : {"Z6", "S3", "S4", "A5", "S5"}) {
    const Group group = group_named(name);
    int commute = 0;
    for (int a = 0; a < group.order; ++a)
      for (int b = 0; b < group.order; ++b) commute += group.product(a, b) == group.product(b, a);
    std::printf("%s: %5d of %5d pairs commute; sizes %d", name, commute, group.order * group.order,
                group.order);
    const std::vector<int> elements = group.elements();
    std::set<int> left(elements.begin(), elements.end());
    for (size_t size = 0; size != left.size() && left.size() > 1;) {
      size = left.size();
      left = commutators(group, left);
      std::printf(" -> %zu", left.size());
    }
    std::printf("\n");
  }
}

// [cost]
// Multiplications of one step, and of putting two steps together as a scan does.
void print_cost() {
  std::printf("    D  diagonal: step  together  dense: step    together\n");
  for (const int D : {16, 64, 256})
    std::printf("%5d %15d %9d %12d %11d\n", D, D, 2 * D, D * D, D * D * D + D * D);
}
// [/cost]

std::string draw_fade() {
  learn::Drawing drawing(660, 330, "How far apart the states after T - 1 and T ones are");
  fprnn::Panel panel{.title = "How far apart the states after T - 1 and T ones are",
                     .x_label = "T",
                     .x = {0, 64},
                     .y = {1e-8, 10, 10},
                     .curves = {}};
  const std::vector<std::pair<double, std::string>> factors = {
      {-1, "a = -1"}, {0.99, "a = 0.99"}, {0.9, "a = 0.9"}, {0.5, "a = 0.5"}};
  for (size_t i = 0; i < factors.size(); ++i) {
    fprnn::Curve curve{.points = {}, .style = i};
    for (int T = 1; T <= 64; ++T)
      if (const double apart = gap(factors[i].first, 1, T); apart >= panel.y.least)
        curve.points.push_back({.x = static_cast<double>(T), .y = apart});
    panel.curves.push_back(curve);
    drawing.legend({540, 80 + 28.0 * static_cast<double>(i)}, curve, factors[i].second);
  }
  drawing.chart(panel, {16, 12, 500, 310});
  return drawing.svg();
}

std::string draw_mirror() {
  learn::Drawing drawing(660, 320, "A mirror in the plane that swaps two coordinates");
  const auto at = [](double x, double y) { return learn::Spot{200 + 60 * x, 250 - 60 * y}; };
  drawing.arrow(at(-1.2, 0), at(4.2, 0));
  drawing.arrow(at(0, -1), at(0, 3.9));
  drawing.line(at(-0.9, -0.9), at(3.7, 3.7), learn::Ink::black);
  drawing.text({at(3.7, 3.7).x + 44, at(3.7, 3.7).y + 6}, "the mirror");
  drawing.arrow(at(0, 0), at(3, 1), learn::Ink::blue);
  drawing.text({at(3, 1).x + 48, at(3, 1).y + 6}, "h = (3, 1)", learn::Anchor::middle, 13,
               learn::Ink::blue);
  drawing.arrow(at(0, 0), at(1, 3), learn::Ink::orange);
  drawing.text({at(1, 3).x - 14, at(1, 3).y - 10}, "H h = (1, 3)", learn::Anchor::middle, 13,
               learn::Ink::orange);
  drawing.line(at(3, 1), at(1, 3));
  drawing.arrow(at(0, 0), at(0.71, -0.71), learn::Ink::green);
  drawing.text({at(0.71, -0.71).x + 12, at(0.71, -0.71).y + 10}, "u = (1, -1) / √2",
               learn::Anchor::start, 13, learn::Ink::green);
  return drawing.svg();
}

}  // namespace

int main(int argc, char** argv) {
  return learn::run(argc, argv,
                    {{"parity", print_parity},
                     {"fade", print_fade},
                     {"centres", print_centres},
                     {"cups", print_cups},
                     {"mirror", print_mirror},
                     {"words", print_words},
                     {"commuting", print_commuting},
                     {"cost", print_cost}},
                    {{"2-diagonal-fade", draw_fade}, {"2-diagonal-mirror", draw_mirror}});
}
