// Chapter 8: what kernels cost, reckoned before they are measured. Bytes, flops and what is on its way, for the
// shapes of docs/gpu/report.md on an H200. No GPU is needed.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "drawing.h"
#include "program.h"

namespace {

using learn::Anchor;
using learn::Ink;

// [machine]
// An H200. The speeds of memory and of products are those with which docs/gpu/report.md reckons, that
// of the cache is what 128 blocks of one kernel drew from it (cuda/ladder/README.md), the latency is a
// rough estimate, and the others are NVIDIA's.
constexpr double kMemory = 4.2e12, kCache = 5.6e12;  // bytes a second: memory, second-level cache
constexpr double kFloat = 60e12, kTensor = 400e12;   // flops a second: fp32, tensor cores in tf32
constexpr double kExponentials = 132 * 16 * 1.98e9;  // a second: 16 a multiprocessor and cycle
constexpr double kLatency = 0.5e-6;                  // seconds from asking memory to having
constexpr int64_t kMultiprocessors = 132;
constexpr int64_t kSharedMemory = 227 * 1024;  // bytes that a block may have
// [/machine]

// [roofline]
struct Work {
  const char* what;
  double bytes, flops, speed;  // to and from memory; speed: of these flops
  double exponentials = 0;
};

// No kernel is faster than the slowest of these three alone.
double least_ms(const Work& work) {
  return 1e3 * std::max({work.bytes / kMemory, work.flops / work.speed,
                         work.exponentials / kExponentials});
}
// [/roofline]

// [count]
constexpr double kReal = 4;  // bytes of a float

Work scan_forward(double B, double T, double D) {  // reads a and b, writes h; a h + b
  return {"scan, forward", 3 * kReal * B * T * D, 2 * B * T * D, kFloat};
}
Work scan_backward(double B, double T, double D) {  // reads a, h, dh, writes da, db
  return {"scan, backward", 5 * kReal * B * T * D, 3 * B * T * D, kFloat};
}
Work selective_scan(double B, double T, double D,
                    double N) {  // reads x, delta, writes y; B and C are small
  return {"selective scan", 3 * kReal * B * T * D, 8 * B * T * D * N, kFloat, B * T * D * N};
}
Work product(double rows, double inner, double columns) {  // (rows, inner) times (inner, columns)
  return {"matrix product", kReal * (rows * inner + inner * columns + rows * columns),
          2 * rows * inner * columns, kTensor};
}
// [/count]

void print(const Work& work) {
  std::printf("%-15s %8.1f MB %9.2f GFLOP %7.1f flops a byte   least %.4f ms\n", work.what,
              work.bytes / 1e6, work.flops / 1e9, work.flops / work.bytes, least_ms(work));
}

// [shapes]
void print_roofline() {
  print(scan_forward(8, 2048, 1536));
  print(scan_backward(8, 2048, 1536));
  print(selective_scan(8, 2048, 2048, 16));
  print(product(8704, 256, 292));
  print(product(8704, 1024, 1152));
  std::printf(
      "memory and arithmetic take equally long at %.0f flops a byte in fp32, %.0f in tf32\n",
      kFloat / kMemory, kTensor / kMemory);
}
// [/shapes]

// [flight]
// A scan with one thread a column, which asks for `ahead` steps at a time: 8 bytes a step. Memory is
// kept busy if what is on its way is its speed times its latency (Little's law).
void print_flight() {
  constexpr double kColumns = 8 * 1536, kBytesOfStep = 8;
  const double needed = kMemory * kLatency;
  std::printf("needed on their way: %.2f MB, %.0f KB a multiprocessor\n", needed / 1e6,
              needed / kMultiprocessors / 1e3);
  for (const int ahead : {1, 8, 16, 32}) {
    const double flying = kColumns * kBytesOfStep * ahead;
    std::printf("%2d steps ahead: %.2f MB on their way, %3.0f %% of the copy's speed\n", ahead,
                flying / 1e6, 100 * std::min(1.0, flying / needed));
  }
}
// [/flight]

// [block]
// The solver that takes G sequences through all of time in one block (cuda/fp_mamba_persistent_kernel.cuh):
// what it keeps where.
struct Block {
  int64_t G, D, N, P;  // sequences, channels, states of a channel, rows of W
  int64_t states() const { return G * D * N * 4; }  // H of every sequence
  int64_t decay() const { return D * N * 4; }       // A, for all
  int64_t y() const { return G * D * 4; }           // y_{t-1}, which the product reads
  int64_t product() const { return G * P * 4; }     // y_{t-1} W^T
  // What x decides of this step and the next: its part of the product (P), and x, delta and z (D).
  int64_t ahead() const { return 2 * G * (P + 3 * D) * 4; }
  int64_t all() const { return states() + decay() + y() + product() + ahead(); }
};

void print_block() {
  const Block block{.G = 4, .D = 256, .N = 16, .P = 292};
  std::printf(
      "states %5.1f KiB\nA      %5.1f\ny      %5.1f\ny W^T  %5.1f\nahead  %5.1f\nall    %5.1f of "
      "%d KiB\n",
      block.states() / 1024.0, block.decay() / 1024.0, block.y() / 1024.0, block.product() / 1024.0,
      block.ahead() / 1024.0, block.all() / 1024.0, static_cast<int>(kSharedMemory / 1024));
}
// [/block]

// [solve]
// All T steps of B sequences: what must come from where, and how long that takes alone.
void print_solve() {
  constexpr double B = 512, T = 17, D = 256, N = 16, P = 292, G = 4;
  const double blocks = B / G;
  std::printf("%.0f blocks on %d multiprocessors\n", blocks, static_cast<int>(kMultiprocessors));
  const double of_w = T * blocks * P * D;  // numbers of W that blocks read
  std::printf("W from the cache, 32 bits a number: %.0f us\n", 1e6 * of_w * 4 / kCache);
  std::printf("W from the cache, 16 bits a number: %.0f us\n", 1e6 * of_w * 2 / kCache);
  std::printf("H, were it in the cache, there and back: %.0f us\n",
              1e6 * T * B * D * N * 8 / kCache);
  std::printf("y W^T as arithmetic, tensor cores: %.1f us\n", 1e6 * 2 * T * B * P * D / kTensor);
  std::printf("exponentials of the decay: %.1f us\n", 1e6 * T * B * D * N / kExponentials);
}
// [/solve]

std::string draw_memory() {
  learn::Drawing drawing(680, 300, "The memories of a GPU, from registers to the host");
  struct Level {
    const char *name, *size, *who;
    double width;
    Ink ink;
  };
  const std::vector<Level> levels = {
      {"registers", "at most 255 numbers a thread, 256 KiB a multiprocessor", "one thread", 370,
       Ink::green},
      {"shared memory and first-level cache", "256 KiB a multiprocessor together", "one block", 410,
       Ink::green},
      {"second-level cache", "50 MB", "all blocks, 5.6 TB/s", 455, Ink::blue},
      {"memory", "141 GB", "all kernels, 4.2 TB/s", 500, Ink::orange}};
  double y = 20;
  for (const Level& level : levels) {
    drawing.box({20, y, level.width, 50}, {}, level.ink);
    drawing.text({32, y + 21}, level.name, Anchor::start);
    drawing.text({32, y + 40}, level.size, Anchor::start, 12, Ink::grey);
    drawing.text({level.width + 36, y + 30}, level.who, Anchor::start, 12);
    y += 68;
  }
  return drawing.svg();
}

std::string draw_block() {
  learn::Drawing drawing(680, 300, "What a block of the persistent solver owns");
  const Block block{.G = 4, .D = 256, .N = 16, .P = 292};
  drawing.text({20, 26}, "shared memory of one block, D 256, N 16, four sequences", Anchor::start);
  constexpr double kLeft = 20, kAll = 640;
  double x = kLeft;
  const auto part = [&](int64_t bytes, const std::string& name, Ink ink) {
    const double width = kAll * static_cast<double>(bytes) / static_cast<double>(block.all());
    drawing.box({x, 40, width, 46}, name, ink);
    x += width;
  };
  for (int g = 1; g <= 4; ++g) part(block.states() / 4, "H " + std::to_string(g), Ink::green);
  part(block.decay(), "A", Ink::grey);
  part(block.y() + block.product(), "y", Ink::blue);
  part(block.ahead(), "next x", Ink::orange);
  drawing.text({20, 124}, "four teams of warps, a sequence each: y_t and the factors in registers",
               Anchor::start);
  for (int g = 0; g < 4; ++g)
    drawing.box({kLeft + 162 * g, 138, 154, 44}, "team " + std::to_string(g + 1), Ink::green);
  drawing.text({20, 282}, "shared by all blocks, read once a step by each", Anchor::start);
  drawing.box({kLeft, 216, 640, 44},
              "W (292, 256), 16 bits a number: 150 KB of the second-level cache", Ink::blue);
  for (int g = 0; g < 4; ++g)
    drawing.arrow({kLeft + 162 * g + 77, 214}, {kLeft + 162 * g + 77, 184});
  return drawing.svg();
}

// Two steps of a block. How long each team iterates is made up; nothing is to scale.
std::string draw_timeline() {
  learn::Drawing drawing(680, 300, "Two steps of the persistent solver in one block");
  constexpr double kRow = 38, kTop = 44, kProduct = 70, kLeft = 90;
  const double solve[2][4] = {{120, 170, 90, 140}, {150, 100, 175, 120}};
  drawing.text({kLeft, 26}, "time goes to the right; not to scale", Anchor::start, 12, Ink::grey);
  for (int g = 0; g < 4; ++g)
    drawing.text({kLeft - 12, kTop + g * kRow + 20}, "team " + std::to_string(g + 1), Anchor::end);
  drawing.text({kLeft - 12, kTop + 4 * kRow + 20}, "copies", Anchor::end);
  double x = kLeft;
  for (const auto& step : solve) {
    const double longest = *std::max_element(std::begin(step), std::end(step));
    drawing.box({x, kTop, kProduct, 4 * kRow - 8}, "y W^T", Ink::blue);
    for (int g = 0; g < 4; ++g) {
      const double y = kTop + g * kRow;
      drawing.box({x + kProduct, y, step[g], kRow - 8}, "decay, root", Ink::green);
      if (step[g] < longest)
        drawing.box({x + kProduct + step[g], y, longest - step[g], kRow - 8},
                    longest - step[g] > 40 ? "wait" : "", Ink::grey);
    }
    drawing.box({x + kProduct, kTop + 4 * kRow, 110, kRow - 8}, "x of next step", Ink::orange);
    x += kProduct + longest;
    drawing.line({x, kTop - 8}, {x, kTop + 5 * kRow}, Ink::black);
    drawing.text({x, kTop + 5 * kRow + 18}, "barrier", Anchor::middle, 12);
    x += 6;
  }
  return drawing.svg();
}

}  // namespace

int main(int argc, char** argv) {
  return learn::run(argc, argv,
                    {{"roofline", print_roofline},
                     {"flight", print_flight},
                     {"block", print_block},
                     {"solve", print_solve}},
                    {{"8-kernels-memory", draw_memory},
                     {"8-kernels-block", draw_block},
                     {"8-kernels-timeline", draw_timeline}});
}
