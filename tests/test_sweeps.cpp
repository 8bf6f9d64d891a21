// The sequential sweeps of a GPU (ops/fp_mamba_sweep.h, ops/fp_rnn_sweep.h) beside f put together from ops: the
// residuals that they report, and what is recorded instead of applying f to the solution.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/mixer.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_sweep.h>
#include <fprnn/ops/fp_rnn_sweep.h>
#include <fprnn/ops/gated_norm.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/low_rank.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/scan.h>
#include <fprnn/ops/selective_scan.h>
#include <fprnn/ops/ssd_scan.h>

#include <cmath>

#include "close.h"
#include "needs.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr double kAlike = kDouble ? 1e-12 : 2e-5;  // of two orders of summation
constexpr real kEps = real(1e-5);

SweepMixer mixer_of(MixerKind kind, int64_t rank, int64_t D) {
  const auto [m1, m2] = kronecker_sizes(D);
  return {.rank = kind == MixerKind::kronecker ? 0 : rank,
          .in_order = kind == MixerKind::householder,
          .scale = 1,
          .norm = KroneckerNorm::row,
          .m1 = m1,
          .m2 = m2};
}
int64_t vectors_of(const SweepMixer& mixer, int64_t D) {
  return mixer.rank > 0 ? mixer.rank * D : kronecker_sizes(D).triangles();
}
int64_t numbers_of(const SweepMixer& mixer, int64_t D) {
  return vectors_of(mixer, D) + (mixer.rank > 0 ? mixer.rank : mixer.m1 + mixer.m2);
}

// Q v for the mixer whose numbers p (B, T, P) begins with.
Var mix(const SweepMixer& mixer, const Var& p, const Var& v) {
  const int64_t D = v.size(-1), vectors = vectors_of(mixer, D);
  const Var first = silu(slice(p, -1, 0, vectors)),
            gates = sigmoid(slice(p, -1, vectors, numbers_of(mixer, D)));
  if (mixer.rank == 0)
    return kronecker(kronecker_factors(first, gates, D, mixer.norm, kEps), v, mixer.scale);
  const Shape shape = first.shape().with(-1, mixer.rank).appended(D);
  const Var u = l2_normalize(reshape(first, shape), kEps);
  return mixer.in_order ? householder(u, gates, v, mixer.scale) : dplr(u, gates, v, mixer.scale);
}

// Of each sequence the largest of any step, as a solver judges a step.
std::vector<real> residuals(const Var& f, const Tensor& y) {
  const int64_t B = y.size(0), T = y.size(1), D = y.size(2);
  const auto of_f = f.value().to_vector(), of_y = y.to_vector();
  std::vector<real> most(B);
  for (int64_t row = 0; row < B * T; ++row) {
    real difference = 0, size = 0;
    for (int64_t i = row * D; i < (row + 1) * D; ++i) {
      difference = std::max(difference, std::abs(of_f[i] - of_y[i]));
      size = std::max(size, std::abs(of_f[i]));
    }
    most[row / T] = std::max(most[row / T], difference / size);
  }
  return most;
}

// Of solutions, and of what few iterations leave.
void check_residuals(const std::string& name, const Tensor& found, const Var& f, const Tensor& y) {
  constexpr double kRounding = kDouble ? 1e-13 : 2e-6, kOfResidual = 1e-3;
  const auto reported = found.to_vector(), truth = residuals(f, y);
  for (size_t b = 0; b < truth.size(); ++b)
    CHECK_MESSAGE(
        std::abs(reported[b] - truth[b]) <= kRounding + kOfResidual * truth[b],
        fmt::format("{}, sequence {}: {:.3g}, by f {:.3g}", name, b, reported[b], truth[b]));
}

// x with every n-th number so, up to the last-th.
Tensor every_nth(const Tensor& x, int64_t n, real value, int64_t last) {
  auto numbers = x.to_vector();
  for (int64_t i = 0; i < last; i += n) numbers[i] = value;
  return Tensor(x.context(), x.shape(), numbers);
}

struct SweepSizes {
  int64_t B, T, D;
  MixerKind kind;
  int64_t rank, N = 16, head = 0;  // channels of a head of FP-Mamba-2
  std::string name(int64_t iterations) const {
    return fmt::format("{} x {} x {} x {} {} {}, heads of {}, {} iterations", B, T, D, N,
                       name_of(kind), rank, head, iterations);
  }
};

// p with all but the gates of the mixer times `size`.
Tensor lengthened(const Tensor& p, const SweepMixer& mixer, int64_t D, real size) {
  auto numbers = p.to_vector();
  for (size_t i = 0; i < numbers.size(); ++i) {
    const int64_t column = i % p.size(-1);
    if (column < vectors_of(mixer, D) || column >= numbers_of(mixer, D)) numbers[i] *= size;
  }
  return Tensor(p.context(), p.shape(), numbers);
}

// Every input that may be missing is there, or none is; FP-Mamba-2 has fewer. size: of vectors and
// directions.
struct MambaSweepCase {
  int64_t N, P, head;
  Tensor x, projected, delta, z, keep, weight_y, a, skip, delta_bias, weight, bias, previous, state;
  Tensor y, state_out, residual, product, of_previous, mixed, b, c, scanned, checkpoints,
      statistics;
  IntTensor iterations;
  FpMambaSweep sweep;

  MambaSweepCase(const Context& context, const SweepSizes& sizes, bool all, int64_t cap, real size)
      : N(sizes.N), head(sizes.head) {
    const int64_t B = sizes.B, T = sizes.T, D = sizes.D, H = head > 0 ? D / head : D;
    const SweepMixer mixer = mixer_of(sizes.kind, sizes.rank, D);
    P = (numbers_of(mixer, D) + 2 * N + 3) / 4 * 4;
    const real reach = 1 / std::sqrt(static_cast<real>(D));
    const Context cpu = host_context();
    uint64_t stream = 1;
    const auto made = [&](const Shape& shape, real bound) {
      return random(cpu, shape, stream++, bound).on(context);
    };
    x = made({B, T, D}, 2);
    projected = lengthened(made({B, T, P}, 2), mixer, D, size);
    delta = made({B, T, H}, 1);
    weight_y = made({P, D}, reach);
    a = affine(made(head > 0 ? Shape{H} : Shape{D, N}, 1), 4, -5).value();
    skip = made({D}, 1), delta_bias = affine(made({H}, 1), 2, -3).value();
    weight = affine(made({D}, real(0.1)), 1, real(0.5)).value();
    if (head == 0) bias = made({D}, real(0.1));
    if (all) {
      // Gates that are shut, one here and there and all of a token's, or as good as that; dropped states.
      z = every_nth(made({B, T, D}, 2), 3, 0, B * T * D);
      z = every_nth(z, 7, -80, B * T * D), z = every_nth(z, 11, -200, B * T * D);
      z = every_nth(z, 1, 0, D);
      if (head == 0) keep = every_nth(full(context, {B, T}, 1), 5, 0, B * T);
      previous = made({B, D}, 1), state = made({B, D, N}, 1);
      of_previous = Tensor(context, {B, P});
    }
    for (Tensor* of : {&y, &mixed, &scanned}) *of = Tensor(context, {B, T, D});
    for (Tensor* of : {&b, &c}) *of = Tensor(context, {B, T, N});
    state_out = Tensor(context, {B, D, N}), residual = Tensor(context, {B});
    product = Tensor(context, {B, T, P}), statistics = Tensor(context, {B, T, 2});
    checkpoints = Tensor(context, head > 0 ? ssd_scan_checkpoints(context, B, T, H, head, N)
                                           : selective_scan_checkpoints(context, B, T, D, N));
    iterations = int_zeros(context, {B});
    const auto or_null = [](const Tensor& of) { return of.defined() ? of.data() : nullptr; };
    sweep = {.x = x.data(),
             .projected = projected.data(),
             .delta = delta.data(),
             .z = or_null(z),
             .keep = or_null(keep),
             .weight_y = weight_y.data(),
             .a = a.data(),
             .skip = skip.data(),
             .delta_bias = delta_bias.data(),
             .norm_weight = weight.data(),
             .norm_bias = or_null(bias),
             .previous = or_null(previous),
             .state = or_null(state),
             .y = y.data(),
             .state_out = state_out.data(),
             .iterations = iterations.data(),
             .residual = residual.data(),
             .trace = {.product = product.data(),
                       .of_previous = or_null(of_previous),
                       .mixed = mixed.data(),
                       .b = b.data(),
                       .c = c.data(),
                       .scanned = scanned.data(),
                       .checkpoints = checkpoints.data(),
                       .statistics = statistics.data()},
             .B = B,
             .T = T,
             .D = D,
             .N = N,
             .P = P,
             .mixer = mixer,
             .bc_norm = true,
             .state_wanted = true,
             .eps = kEps,
             .tolerance = kDouble ? real(1e-12) : real(1e-5),
             .max_iterations = cap,
             .head = head};
    REQUIRE(has_fused(context, sweep));
    launch_fused(context, sweep);
  }

  // The scan of the first steps.
  SelectiveScanResult scan(int64_t steps) const {
    const auto first = [&](const Tensor& of) {
      return of.defined() ? slice(of, 1, 0, steps) : Var();
    };
    if (head > 0) {
      const int64_t B = x.size(0), D = x.size(2), H = D / head;
      const auto [of_heads, after] =
          ssd_scan({.x = reshape(first(mixed), {B, steps, H, head}),
                    .dt = first(delta),
                    .a = a,
                    .b = reshape(first(b), {B, steps, 1, N}),
                    .c = reshape(first(c), {B, steps, 1, N}),
                    .skip = reshape(skip, {H, head}),
                    .dt_bias = delta_bias,
                    .h0 = state.defined() ? reshape(state, {B, H, head, N}) : Var(),
                    .exact = true});
      return {reshape(of_heads, {B, steps, D}), reshape(after, {B, D, N})};
    }
    const Var kept = first(keep);
    return selective_scan({.u = first(mixed),
                           .delta = first(delta),
                           .a = a,
                           .b = first(b),
                           .c = first(c),
                           .skip = skip,
                           .delta_bias = delta_bias,
                           .h0 = state.defined() ? Var(state) : Var(),
                           .keep = kept.defined() ? kept.value() : Tensor()});
  }
};

void check_mamba_sweep(const Context& context, const SweepSizes& sizes, bool all, int64_t cap,
                       double of_product, real size = 1) {
  const std::string name = sizes.name(cap) + (all ? ", all inputs" : "");
  const MambaSweepCase at(context, sizes, all, cap, size);
  const int64_t B = sizes.B, T = sizes.T, D = sizes.D;
  const auto alike = [&](const std::string& what, const Var& found, const Var& truth,
                         double most = kAlike) {
    check_close(name + ", " + what, found.value().to_vector(), truth.value().to_vector(), most);
  };
  const auto or_none = [](const Tensor& of) { return of.defined() ? Var(of) : Var(); };

  // Of the last step there is no product.
  alike("product", slice(at.product, 1, 0, T - 1), slice(linear(at.y, at.weight_y), 1, 0, T - 1),
        of_product);
  if (all) alike("product before", at.of_previous, linear(at.previous, at.weight_y), of_product);
  const Var seen = concat({slice(at.product, 1, 0, T - 1), zeros(context, {B, 1, at.P})}, 1);
  const Var p = add(at.projected, shift(seen, or_none(at.of_previous)));
  const int64_t directions = at.P - 2 * at.N;
  alike("b", at.b, l2_normalize(slice(p, -1, directions, directions + at.N), kEps));
  alike("c", at.c, l2_normalize(slice(p, -1, directions + at.N, at.P), kEps));
  alike("mixed", at.mixed, add(mix(at.sweep.mixer, p, sub(at.x, at.y)), at.y));

  const auto [v, state] = at.scan(T);
  alike("scan", at.scanned, v);
  alike("state", at.state_out, state);
  const int64_t of_chunk = at.head > 0 ? kSsdGpuChunk : kSelectiveScanChunk;
  for (int64_t chunk = 1; chunk * of_chunk < T; ++chunk) {
    const Var kept = slice(at.checkpoints, at.head > 0 ? 2 : 1, chunk - 1, chunk);
    alike(fmt::format("checkpoint {}", chunk),
          at.head > 0 ? reshape(kept, {B, 1, D, at.N}) : slice(kept, 2, 0, D),
          reshape(at.scan(chunk * of_chunk).state, {B, 1, D, at.N}));
  }

  const Var gated = at.z.defined() ? mul(v, silu(at.z)) : v;
  const Var f = gated_norm(v, or_none(at.z), at.weight, or_none(at.bias), kEps);
  const Var mean = slice(at.statistics, -1, 0, 1), scale = slice(at.statistics, -1, 1, 2);
  const Var normal = mul(mul(sub(gated, mean), scale), at.weight);
  alike("statistics", at.bias.defined() ? add(normal, at.bias) : normal, f);
  check_residuals(name, at.residual, f, at.y);
}

void check_rnn_sweep(const Context& context, const SweepSizes& sizes, bool all, int64_t cap) {
  const int64_t B = sizes.B, T = sizes.T, D = sizes.D;
  const SweepMixer mixer = mixer_of(sizes.kind, sizes.rank, D);
  const int64_t P = numbers_of(mixer, D);
  const Context cpu = host_context();
  uint64_t stream = 1;
  const auto made = [&](const Shape& shape, real bound) {
    return random(cpu, shape, stream++, bound).on(context);
  };
  const Tensor bx = made({B, T, D}, 1), projected = made({B, T, P}, 2),
               lambda = sigmoid(made({B, T, D}, 2)).value(),
               weight_y = made({P, D}, 1 / std::sqrt(static_cast<real>(D)));
  const Tensor previous = all ? made({B, D}, 1) : Tensor(),
               state = all ? made({B, D}, 1) : Tensor();
  const Tensor y(context, {B, T, D}), state_out(context, {B, D}), residual(context, {B});
  const IntTensor iterations = int_zeros(context, {B});
  const FpRnnSweep sweep{.bx = bx.data(),
                         .projected = projected.data(),
                         .lambda = lambda.data(),
                         .weight_y = weight_y.data(),
                         .previous = all ? previous.data() : nullptr,
                         .state = all ? state.data() : nullptr,
                         .y = y.data(),
                         .state_out = state_out.data(),
                         .iterations = iterations.data(),
                         .residual = residual.data(),
                         .B = B,
                         .T = T,
                         .D = D,
                         .P = P,
                         .mixer = mixer,
                         .eps = kEps,
                         .tolerance = kDouble ? real(1e-12) : real(1e-5),
                         .max_iterations = cap};
  REQUIRE(has_fused(context, sweep));
  launch_fused(context, sweep);

  const Var before = all ? linear(previous, weight_y) : Var();
  const Var p = add(projected, shift(linear(y, weight_y), before));
  const Var mixed = add(mix(mixer, p, sub(bx, y)), y);
  const Var f = scan(lambda, mul(affine(lambda, -1, 1), mixed), {.h0 = all ? Var(state) : Var()});
  const std::string name = "rnn " + sizes.name(cap);
  check_residuals(name, residual, f, y);
  check_close(name + ", state", state_out.to_vector(), slice(f, 1, T - 1, T).value().to_vector(),
              kAlike);
}

}  // namespace

// In one kernel and step by step, there in one piece and in two halves of many sequences; time is a step, or whole
// chunks of the scan and a part of one.
TEST_CASE("sweeps: what FP-Mamba's and FP-Mamba-2's records is what the ops make of its solution" *
          needs_gpu()) {
  for (const bool rounded : {false, true}) {
    if (rounded && kDouble) continue;
    ContextOptions options = test_options();
    if (rounded) options.matmul_precision = MatmulPrecision::tf32;
    const Context context = device_context(options);
    for (const SweepSizes& sizes : {SweepSizes{3, 37, 64, MixerKind::householder, 1},
                                    {5, 37, 512, MixerKind::dplr, 2},
                                    {67, 17, 512, MixerKind::householder, 2},
                                    {301, 17, 512, MixerKind::householder, 2},
                                    {3, 33, 512, MixerKind::householder, 2, 32},
                                    {5, 16, 64, MixerKind::householder, 1, 20},
                                    {67, 1, 512, MixerKind::householder, 2},
                                    {301, 1, 512, MixerKind::householder, 2},
                                    {3, 37, 256, MixerKind::kronecker, 0},
                                    {3, 37, 1024, MixerKind::kronecker, 0},
                                    {3, 70, 64, MixerKind::householder, 1, 16, 16},
                                    {5, 70, 512, MixerKind::dplr, 2, 32, 64},
                                    {301, 17, 512, MixerKind::householder, 2, 16, 64},
                                    {3, 37, 256, MixerKind::kronecker, 0, 16, 64}})
      for (const bool all : {false, true})
        for (const int64_t cap : {2, 200})
          check_mamba_sweep(context, sizes, all, cap, rounded ? 2e-3 : kAlike);
  }
}

TEST_CASE("sweeps: vectors, b and c whose squares overflow" * needs_gpu()) {
  const real size = kDouble ? real(0x1p512) : real(0x1p66);
  for (const SweepSizes& sizes : {SweepSizes{3, 37, 64, MixerKind::householder, 1},
                                  {301, 17, 512, MixerKind::householder, 2},
                                  {3, 9, 512, MixerKind::dplr, 4},
                                  {3, 37, 256, MixerKind::kronecker, 0}})
    check_mamba_sweep(test_context(), sizes, true, 200, kAlike, size);
}

TEST_CASE("sweeps: FP-RNN's judges its solution as f does" * needs_gpu()) {
  for (const SweepSizes& sizes : {SweepSizes{3, 9, 64, MixerKind::householder, 1},
                                  {3, 9, 512, MixerKind::dplr, 2},
                                  {3, 9, 256, MixerKind::kronecker, 0}})
    for (const bool all : {false, true})
      for (const int64_t cap : {2, 200}) check_rnn_sweep(test_context(), sizes, all, cap);
}

}  // namespace fprnn::tests
