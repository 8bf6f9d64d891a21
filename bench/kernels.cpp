#include "bench.h"

#include <fprnn/core/check.h>
#include <fprnn/core/rng.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/scan.h>
#include <fprnn/ops/selective_scan.h>

#if FPRNN_OPENBLAS
#include <cblas.h>
#endif

#include <algorithm>
#include <array>
#include <cmath>

namespace fprnn::bench {

namespace {

struct Product {
  int64_t M, N, K;
  bool transpose_a, transpose_b;
};

// Cubes, and the products of linear layers: forward (A B^T), the input's gradient (A B) and the weight's
// (A^T B, where the batch is summed over).
std::vector<Product> products(const Context& context, bool full) {
  std::vector<Product> all{
      {256, 256, 256, false, true}, {512, 512, 512, false, true}, {1024, 1024, 1024, false, true}};
  if (context.device() == DeviceKind::cuda) all.push_back({8192, 8192, 8192, false, true});
  const std::vector<int64_t> rows =
      full ? std::vector<int64_t>{64, 256, 1088, 4352} : std::vector<int64_t>{64, 1088, 4352};
  for (const int64_t M : rows)
    for (const int64_t K : {64, 128, 256})
      for (const int64_t N : {32, 64, 128, 256, 512, 1024}) {
        if (!full && (K == 128 || N == 64 || N == 256 || N == 512)) continue;
        all.push_back({M, N, K, false, true});
        all.push_back({M, N, K, false, false});
        if (M >= 1088) all.push_back({N, K, M, true, false});
      }
  return all;
}

#if FPRNN_OPENBLAS
void openblas(const Gemm& g) {
  const auto side = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
  if constexpr (kDouble)
    cblas_dgemm(CblasRowMajor, side(g.transpose_a), side(g.transpose_b), g.M, g.N, g.K, 1,
                reinterpret_cast<const double*>(g.a), g.lda, reinterpret_cast<const double*>(g.b),
                g.ldb, 0, reinterpret_cast<double*>(g.c), g.ldc);
  else
    cblas_sgemm(CblasRowMajor, side(g.transpose_a), side(g.transpose_b), g.M, g.N, g.K, 1,
                reinterpret_cast<const float*>(g.a), g.lda, reinterpret_cast<const float*>(g.b),
                g.ldb, 0, reinterpret_cast<float*>(g.c), g.ldc);
}
#endif

}  // namespace

Sizes sizes(std::initializer_list<std::pair<const char*, int64_t>> named) {
  Sizes text;
  for (const auto& [name, size] : named) text[name] = std::to_string(size);
  return text;
}

std::vector<Result> gemm(const Context& context, const Options& options) {
  std::vector<Result> results;
  Rng rng;
  for (const auto& [M, N, K, ta, tb] : products(context, options.full)) {
    const Tensor a = uniform(context, ta ? Shape{K, M} : Shape{M, K}, -1, 1, rng);
    const Tensor b = uniform(context, tb ? Shape{N, K} : Shape{K, N}, -1, 1, rng);
    const Tensor c(context, {M, N});
    const Gemm args = contiguous_product({a.data(), a.size(0), a.size(1), ta},
                                         {b.data(), b.size(0), b.size(1), tb}, c.data());
    std::vector<Work> alternatives{[&] { launch(context, args); }};
#if FPRNN_OPENBLAS
    if (context.device() == DeviceKind::cpu) {
      openblas_set_num_threads(context.threads());
      alternatives.push_back([&] { openblas(args); });
    }
#endif
    const std::vector<Timing> times = medians(context, options, alternatives);
    results.push_back({.name = ta   ? "gemm A^T B"
                               : tb ? "gemm A B^T"
                                    : "gemm A B",
                       .parameters = sizes({{"M", M}, {"N", N}, {"K", K}}),
                       .milliseconds = times[0].milliseconds,
                       .gigaflops = 2.0 * M * N * K / times[0].milliseconds / 1e6,
                       .runs = options.runs,
                       .limit_milliseconds = times.size() > 1 ? times[1].milliseconds : 0,
                       .how = times[0].how});
  }
  return results;
}

ScanCase::ScanCase(const Context& context, const Shape& shape) {
  Rng rng;
  a = uniform(context, shape, 0, 1, rng);
  for (Tensor* x : {&b, &dh}) *x = uniform(context, shape, -1, 1, rng);
  for (Tensor* x : {&h, &da, &db}) *x = Tensor(context, shape);
  dh0 = Tensor(context, shape.without(1));
  forward = {.a = a.data(),
             .b = b.data(),
             .h0 = nullptr,
             .h = h.data(),
             .B = shape[0],
             .T = shape[1],
             .D = shape[2],
             .reverse = false};
  backward = {forward, dh.data(), da.data(), db.data(), dh0.data()};
  for (const int i : {0, 1}) bytes[i] = (3.0 + 2 * i) * shape.elements() * sizeof(real);
}

// Against a copy of as many bytes, timed in turn with it: 12 an element forward, 20 backward. On a GPU
// B D sequences are few for its size, so that time has to be split, and the longer ones also miss its cache.
std::vector<Result> scan(const Context& context, const Options& options) {
  using BTD = std::array<int64_t, 3>;
  const bool gpu = context.device() == DeviceKind::cuda;
  std::vector<Result> results;
  for (const auto& [B, T, D] : gpu ? std::array{BTD{8, 2048, 1536}, BTD{8, 16384, 1536}}
                                   : std::array{BTD{8, 2048, 256}, BTD{64, 17, 128}}) {
    const ScanCase at(context, {B, T, D});
    const auto times = medians_and_copies(
        context, options,
        {[&] { launch(context, at.forward); }, [&] { launch(context, at.backward); }},
        {at.bytes[0], at.bytes[1]});
    for (int i = 0; i < 2; ++i)
      results.push_back({.name = i == 0 ? "scan-forward" : "scan-backward",
                         .parameters = sizes({{"B", B}, {"T", T}, {"D", D}}),
                         .milliseconds = times[i].milliseconds,
                         .gigabytes_per_second = at.bytes[i] / times[i].milliseconds / 1e6,
                         .runs = options.runs,
                         .limit_milliseconds = times[i + 2].milliseconds,
                         .how = times[i].how});
  }
  return results;
}

namespace {

// The tensors of one selective scan and the two contracts over them.
struct SelectiveScanCase {
  Tensor u, delta, a, b, c, skip, bias, y, state, checkpoints, dy;
  Tensor du, ddelta, da, db, dc, dskip, dbias;
  SelectiveScanForward forward;
  SelectiveScanBackward backward;

  SelectiveScanCase(const Context& context, int64_t B, int64_t T, int64_t D, int64_t N) {
    Rng rng;
    const Shape wide{B, T, D}, narrow{B, T, N};
    for (Tensor* x : {&u, &dy}) *x = uniform(context, wide, -1, 1, rng);
    delta = uniform(context, wide, -3, 1, rng);
    a = uniform(context, {D, N}, -static_cast<real>(N), -1, rng);
    for (Tensor* x : {&b, &c}) *x = uniform(context, narrow, -1, 1, rng);
    for (Tensor* x : {&skip, &bias}) *x = uniform(context, {D}, -1, 1, rng);
    for (Tensor* x : {&y, &du, &ddelta}) *x = Tensor(context, wide);
    for (Tensor* x : {&db, &dc}) *x = Tensor(context, narrow);
    for (Tensor* x : {&dskip, &dbias}) *x = Tensor(context, {D});
    state = Tensor(context, {B, D, N});
    da = Tensor(context, {D, N});
    checkpoints = Tensor(context, selective_scan_checkpoints(context, B, T, D, N));
    forward = {.u = u.data(),
               .delta = delta.data(),
               .a = a.data(),
               .b = b.data(),
               .c = c.data(),
               .skip = skip.data(),
               .delta_bias = bias.data(),
               .h0 = nullptr,
               .keep = nullptr,
               .y = y.data(),
               .state = state.data(),
               .checkpoints = checkpoints.data(),
               .B = B,
               .T = T,
               .D = D,
               .N = N,
               .softplus = true};
    backward = {.forward = forward,
                .dy = dy.data(),
                .dstate = nullptr,
                .du = du.data(),
                .ddelta = ddelta.data(),
                .da = da.data(),
                .db = db.data(),
                .dc = dc.data(),
                .dskip = dskip.data(),
                .ddelta_bias = dbias.data(),
                .dh0 = nullptr};
  }
};

}  // namespace

// The roofline is the larger of two times: the compulsory bytes at the speed of a copy of as many, and the
// compulsory arithmetic. On the CPU that is, for each of B T D N states, one exponential at the
// speed of the kernels' own on cached data, and at the peak of multiply-adds 4 forward (dt A, dt u
// b, the recurrence, y) and 11 backward (the first three again; the cotangents of H, b, c, dt u, dt
// A, A, and their two products). On a GPU it is the exponential alone, 16 a clock and
// multiprocessor at the highest clock, beside which multiply-adds run in units of their own.
// exp_share says how much of the time the exponentials alone would take (ops/selective_scan.md says
// how much of it they could).
// Forward keeps the checkpoints that backward needs, except in the last row.
std::vector<Result> selective_scan(const Context& context, const Options& options) {
  using BTDN = std::array<int64_t, 4>;
  const bool gpu = context.device() == DeviceKind::cuda;
  std::vector<Result> results;
  const double exponentials = exponentials_per_second(context, options);
  const double multiply_adds = gpu ? INFINITY : multiply_adds_per_second(context, options);
  for (const auto& [B, T, D, N] : gpu ? std::array{BTDN{8, 2048, 2048, 16}, BTDN{512, 16, 256, 16}}
                                      : std::array{BTDN{8, 2048, 256, 16}, BTDN{64, 17, 128, 16}}) {
    const SelectiveScanCase at(context, B, T, D, N);
    SelectiveScanForward alone = at.forward;
    alone.checkpoints = nullptr;
    const double wide = static_cast<double>(B * T * D) * sizeof(real);
    const double narrow = static_cast<double>(B * T * N) * sizeof(real);
    const double bytes[] = {3 * wide + 2 * narrow, 5 * wide + 4 * narrow};
    const auto times =
        medians_and_copies(context, options,
                           {[&] { launch(context, at.forward); },
                            [&] { launch(context, at.backward); }, [&] { launch(context, alone); }},
                           {bytes[0], bytes[1]});
    constexpr std::array kNames{"selective-scan-forward", "selective-scan-backward",
                                "selective-scan-forward-alone"};
    for (size_t i = 0; i < kNames.size(); ++i) {
      const bool backward = i == 1;
      const double milliseconds = times[i].milliseconds;
      const double states = static_cast<double>(B * T * D * N);
      const double exp_time = 1e3 * states / exponentials;
      const double other_time = 1e3 * states * (backward ? 11 : 4) / multiply_adds;
      Sizes parameters = sizes({{"B", B}, {"T", T}, {"D", D}, {"N", N}});
      parameters["exp_share"] = std::to_string(exp_time / milliseconds).substr(0, 4);
      results.push_back({.name = kNames[i],
                         .parameters = parameters,
                         .milliseconds = milliseconds,
                         .gigabytes_per_second = bytes[backward] / milliseconds / 1e6,
                         .runs = options.runs,
                         .limit_milliseconds =
                             std::max(times[backward ? 4 : 3].milliseconds, exp_time + other_time),
                         .how = times[i].how});
    }
  }
  return results;
}

std::vector<Result> ladder(const Context& context, const Options& options) {
  require<ValueError>(context.device() == DeviceKind::cuda, "bench",
                      "ladder is measured on a GPU alone");
  if constexpr (built_with_cuda()) return gpu_ladder(context, options);
  return {};
}

}  // namespace fprnn::bench
