// Chapter 1: a recurrence as a scan.
#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/ops.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

#include "drawing.h"
#include "numbers.h"
#include "program.h"

namespace {

using namespace fprnn;
using learn::Numbers, learn::print, learn::largest_difference;

const Numbers kA = {0.5, 2, 0.5, 1, 0.5, 2, 1, 0.5}, kB = {1, 3, 2, 1, 0, 1, -2, 4};

// [loop]
// h_t = a_t h_{t-1} + b_t, one step after the other, from h_{-1} = 0.
Numbers loop(const Numbers& a, const Numbers& b) {
  Numbers h;
  double state = 0;
  for (size_t t = 0; t < a.size(); ++t) {
    state = a[t] * state + b[t];
    h.push_back(state);
  }
  return h;
}
// [/loop]

void print_loop() {
  print("a", kA);
  print("b", kB);
  print("h", loop(kA, kB));
}

// [step]
// What a step does to the state, or several steps do together: h -> a h + b.
struct Step {
  double a = 1, b = 0;
  double operator()(double h) const { return a * h + b; }
};

// The step that does first `early`, then `late`: late.a (early.a h + early.b) + late.b.
Step compose(const Step& early, const Step& late) {
  return {late.a * early.a, late.a * early.b + late.b};
}
// [/step]

void print_step() {
  const Step p{kA[0], kB[0]}, q{kA[1], kB[1]}, r{kA[2], kB[2]};
  const Step pq = compose(p, q), qr = compose(q, r);
  std::printf("p then q      a %.2f  b %.2f\n", pq.a, pq.b);
  std::printf("(p q) then r  a %.2f  b %.2f\n", compose(pq, r).a, compose(pq, r).b);
  std::printf("p then (q r)  a %.2f  b %.2f\n", compose(p, qr).a, compose(p, qr).b);
  std::printf("q then p      a %.2f  b %.2f\n", compose(q, p).a, compose(q, p).b);
}

// [doubling]
// After round k each step has become the composition of the last 2^k steps up to it. The steps of
// a round do not read each other's results: they can be done at once.
Numbers doubling(const Numbers& a, const Numbers& b,
                 const std::function<void(const std::vector<Step>&)>& after_round = {}) {
  std::vector<Step> steps;
  for (size_t t = 0; t < a.size(); ++t) steps.push_back({a[t], b[t]});
  for (size_t reach = 1; reach < steps.size(); reach *= 2) {
    std::vector<Step> next = steps;
    for (size_t t = reach; t < steps.size(); ++t) next[t] = compose(steps[t - reach], steps[t]);
    steps = next;
    if (after_round) after_round(steps);
  }
  Numbers h;
  for (const Step& from_start : steps) h.push_back(from_start(0));
  return h;
}
// [/doubling]

void print_doubling() {
  print("before ", kB);
  int round = 0;
  const Numbers h = doubling(kA, kB, [&](const std::vector<Step>& steps) {
    Numbers b;
    for (const Step& step : steps) b.push_back(step.b);
    print(("round " + std::to_string(++round)).c_str(), b);
  });
  std::printf("equal to the loop: %s\n", h == loop(kA, kB) ? "yes" : "no");
}

// [pieces]
// Each piece of `size` steps alone, as if its state began at 0; then the state at the end of each
// piece, one piece after the other; then what that state adds to the piece after it.
Numbers in_pieces(const Numbers& a, const Numbers& b, size_t size) {
  const size_t T = a.size();
  Numbers h(T), factor(T);
  for (size_t begin = 0; begin < T; begin += size) {  // the pieces at once
    Step so_far;
    for (size_t t = begin; t < std::min(T, begin + size); ++t) {
      so_far = compose(so_far, {a[t], b[t]});
      h[t] = so_far.b, factor[t] = so_far.a;
    }
  }
  Numbers before;  // the state before each piece
  double state = 0;
  for (size_t begin = 0; begin < T; begin += size) {  // one after the other
    before.push_back(state);
    const size_t last = std::min(T, begin + size) - 1;
    state = factor[last] * state + h[last];
  }
  for (size_t t = 0; t < T; ++t) h[t] += factor[t] * before[t / size];  // all at once
  return h;
}
// [/pieces]

void print_pieces() {
  for (const size_t size : {1, 2, 3, 8})
    std::printf("pieces of %zu: %s\n", size,
                in_pieces(kA, kB, size) == loop(kA, kB) ? "equal to the loop" : "differs");
}

// [count]
// Work: how many compositions in all. Depth: how many after each other, with as many processors as
// one likes.
void print_count() {
  std::printf("      T  loop: work = depth  doubling: work  depth  pieces: work  depth\n");
  for (const int64_t T : {16, 1024, 65536}) {
    int64_t work = 0, depth = 0;
    for (int64_t reach = 1; reach < T; reach *= 2, ++depth) work += T - reach;
    const int64_t size = std::lround(std::sqrt(T)), pieces = T / size;
    std::printf("%7d %19d %15d %6d %13d %6d\n", static_cast<int>(T), static_cast<int>(T),
                static_cast<int>(work), static_cast<int>(depth), static_cast<int>(2 * T + pieces),
                static_cast<int>(size + pieces + 1));
  }
}
// [/count]

// A channel of a sequence out of memory: element (b, t, d) is number (b T + t) D + d.
Numbers channel(const Tensor& x, int64_t b, int64_t d) {
  const Numbers all = learn::numbers_of(x);
  const int64_t T = x.size(1), D = x.size(2);
  Numbers one;
  for (int64_t t = 0; t < T; ++t) one.push_back(all[(b * T + t) * D + d]);
  return one;
}

// [library]
// The library's scan takes B sequences of T steps with D channels each, in one call.
void print_library() {
  const Context context = Context::cpu();
  Rng rng{.seed = 1};
  const Tensor a = uniform(context, {2, 64, 3}, 0, 1, rng);  // (B, T, D)
  const Tensor b = normal(context, {2, 64, 3}, 0, 1, rng);
  const Tensor h = scan(a, b).value();
  double largest = 0;
  for (int64_t sequence = 0; sequence < 2; ++sequence)
    for (int64_t d = 0; d < 3; ++d)
      largest = std::max(
          largest, largest_difference(channel(h, sequence, d),
                                      loop(channel(a, sequence, d), channel(b, sequence, d))));
  std::printf("%d elements, within 1e-5 of the loop: %s\n", static_cast<int>(h.elements()),
              largest < 1e-5 ? "yes" : "no");
}
// [/library]

// [backward]
// Given dh_t = dL / dh_t of each output by itself, the gradients of all inputs.
struct ScanGradient {
  Numbers da, db;
};
ScanGradient backward(const Numbers& a, const Numbers& h, const Numbers& dh) {
  const size_t T = a.size();
  ScanGradient gradient{Numbers(T), Numbers(T)};
  double from_later = 0;  // a_{t+1} g_{t+1}
  for (size_t t = T; t-- > 0;) {
    const double g = dh[t] + from_later;
    gradient.db[t] = g;
    gradient.da[t] = t > 0 ? g * h[t - 1] : 0;
    from_later = a[t] * g;
  }
  return gradient;
}
// [/backward]

void print_backward() {
  const Numbers a(kA.begin(), kA.begin() + 4), b(kB.begin(), kB.begin() + 4);
  const ScanGradient gradient = backward(a, loop(a, b), {0, 0, 0, 1});
  print("db", gradient.db);
  print("da", gradient.da);
}

// [tape]
// The same loss, the last state, through the library's tape.
void print_tape() {
  const Context context = Context::cpu();
  Tape tape(context);
  const Shape shape = {1, 4, 1};
  const Var a = tape.variable(learn::tensor_of(context, shape, {0.5, 2, 0.5, 1}));
  const Var b = tape.variable(learn::tensor_of(context, shape, {1, 3, 2, 1}));
  const Var loss = sum(mul(scan(a, b), learn::tensor_of(context, shape, {0, 0, 0, 1})));
  const std::vector<Tensor> gradients = tape.vjp({loss}, {full(context, {}, 1)}, {a, b});
  print("db", channel(gradients[1], 0, 0));
  print("da", channel(gradients[0], 0, 0));
}
// [/tape]

// [bytes]
// What a scan must move and compute, in float: it reads a and b and writes h.
void print_bytes() {
  const int64_t B = 8, T = 2048, D = 1536, elements = B * T * D;
  const double bytes = 3.0 * 4 * elements, flops = 2.0 * elements;
  std::printf("%.1f million elements, %.0f MB, %.0f million flops: %.2f flops a byte\n",
              elements * 1e-6, bytes * 1e-6, flops * 1e-6, flops / bytes);
}
// [/bytes]

std::string draw_doubling() {
  constexpr double kColumn = 66, kRow = 74, kLeft = 120, kTop = 34;
  learn::Drawing drawing(660, 280, "Three rounds of doubling over eight steps");
  const auto spot = [](int t, int round) {
    return learn::Spot{kLeft + t * kColumn, kTop + round * kRow};
  };
  for (int round = 0; round <= 3; ++round) {
    drawing.text({kLeft - 40, spot(0, round).y + 4},
                 round == 0 ? "before" : "round " + std::to_string(round), learn::Anchor::end);
    for (int t = 0; t < 8; ++t) {
      const int begin = std::max(0, t + 1 - (1 << round));
      const std::string steps =
          begin == t ? std::to_string(t) : std::to_string(begin) + " .. " + std::to_string(t);
      drawing.box({spot(t, round).x - 25, spot(t, round).y - 13, 50, 26}, steps,
                  begin == 0 ? learn::Ink::green : learn::Ink::blue);
    }
  }
  for (int round = 0; round < 3; ++round)
    for (int t = 1 << round; t < 8; ++t) {
      const auto below = spot(t, round + 1), above = spot(t - (1 << round), round);
      drawing.line({below.x, spot(t, round).y + 13}, {below.x, below.y - 13});
      drawing.arrow({above.x, above.y + 13}, {below.x - 3, below.y - 14}, learn::Ink::orange);
    }
  return drawing.svg();
}

std::string draw_memory() {
  constexpr double kCell = 34, kLeft = 100, kTop = 62;
  learn::Drawing drawing(660, 250, "A tensor (B, T, D) in memory, and the channels of a vector");
  drawing.text({kLeft, 24}, "one sequence, T = 4 steps of D = 16 channels, row after row in memory",
               learn::Anchor::start);
  for (int t = 0; t < 4; ++t) {
    const double y = kTop + t * (kCell + 8);
    drawing.text({kLeft - 14, y + 22}, "t = " + std::to_string(t), learn::Anchor::end);
    for (int d = 0; d < 16; ++d)
      drawing.box({kLeft + d * kCell, y, kCell, kCell}, std::to_string(t * 16 + d),
                  d < 8 ? learn::Ink::blue : learn::Ink::orange);
    for (const int d : {4, 12})
      if (t > 0)
        drawing.arrow({kLeft + d * kCell, y - 9}, {kLeft + d * kCell, y + 1}, learn::Ink::black);
  }
  drawing.text({kLeft + 4 * kCell, 52}, "lanes of one vector", learn::Anchor::middle, 12,
               learn::Ink::blue);
  drawing.text({kLeft + 12 * kCell, 52}, "lanes of the next", learn::Anchor::middle, 12,
               learn::Ink::orange);
  return drawing.svg();
}

}  // namespace

int main(int argc, char** argv) {
  return learn::run(argc, argv,
                    {{"loop", print_loop},
                     {"step", print_step},
                     {"doubling", print_doubling},
                     {"pieces", print_pieces},
                     {"count", print_count},
                     {"library", print_library},
                     {"backward", print_backward},
                     {"tape", print_tape},
                     {"bytes", print_bytes}},
                    {{"1-scan-doubling", draw_doubling}, {"1-scan-memory", draw_memory}});
}
