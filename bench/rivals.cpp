// The kernels of the rivals: gated recurrences, the delta rule, Mamba-2's scan, the mLSTM, attention.
#include "bench.h"

#include <fprnn/core/rng.h>
#include <fprnn/ops/attention.h>
#include <fprnn/ops/delta_rule.h>
#include <fprnn/ops/mlstm.h>
#include <fprnn/ops/recurrent.h>
#include <fprnn/ops/slstm.h>
#include <fprnn/ops/ssd_scan.h>

#include <array>
#include <cmath>
#include <limits>

namespace fprnn::bench {

namespace {

// Forward and backward of the LSTM with H channels, and of the sLSTM with as many in heads of d, both without
// what is a product outside the sweeps: that of the input, and the weights' gradients.
struct GatedCase {
  Tensor x, weight, h, c, n, m, saved, dh, dx;
  RecurrentForward lstm;
  RecurrentBackward lstm_back;
  SlstmForward slstm;
  SlstmBackward slstm_back;

  GatedCase(const Context& context, int64_t B, int64_t T, int64_t H, int64_t d) {
    Rng rng;
    const real bound = real(1) / std::sqrt(static_cast<real>(d));
    x = uniform(context, {B, T, 4 * H}, -1, 1, rng);
    weight = uniform(context, {H / d, 4 * d, d}, -bound, bound, rng);
    dh = uniform(context, {B, T, H}, -1, 1, rng);
    for (Tensor* y : {&h, &c}) *y = Tensor(context, {B, T, H});
    for (Tensor* y : {&n, &m}) *y = Tensor(context, {B, H});
    saved = Tensor(context, {B, T, kSlstmSaved, H});
    dx = Tensor(context, {B, T, 4 * H});
    lstm = {.cell = RecurrentCell::lstm,
            .x = x.data(),
            .weight = weight.data(),
            .bias = nullptr,
            .h0 = nullptr,
            .c0 = nullptr,
            .h = h.data(),
            .c = c.data(),
            .saved = saved.data(),
            .B = B,
            .T = T,
            .H = H};
    slstm = {.x = x.data(),
             .weight = weight.data(),
             .bias = nullptr,
             .h0 = nullptr,
             .c0 = nullptr,
             .n0 = nullptr,
             .m0 = nullptr,
             .h = h.data(),
             .c = c.data(),
             .n = n.data(),
             .m = m.data(),
             .saved = saved.data(),
             .B = B,
             .T = T,
             .H = H / d,
             .d = d};
    lstm_back = {lstm, dh.data(), nullptr, dx.data(), nullptr, nullptr, nullptr};
    slstm_back = {slstm,     dh.data(), nullptr, nullptr, nullptr,
                  dx.data(), nullptr,   nullptr, nullptr, nullptr};
  }
  std::vector<Work> work(const Context& context, bool heads) const {
    if (heads) return {[&] { launch(context, slstm); }, [&] { launch(context, slstm_back); }};
    return {[&] { launch(context, lstm); }, [&] { launch(context, lstm_back); }};
  }
};

}  // namespace

std::vector<Result> gated(const Context& context, const Options& options) {
  std::vector<Result> results;
  for (const auto& [B, T, H, d] :
       {std::array<int64_t, 4>{512, 16, 128, 128}, {16, 1024, 256, 64}}) {
    const bool heads = d < H;
    const GatedCase at(context, B, T, H, d);
    const std::vector<Work> work = at.work(context, heads);
    for (const Work& each : work) each();  // backward reads what forward has left
    const auto times = medians(context, options, work);
    for (int i = 0; i < 2; ++i)
      results.push_back(
          {.name = std::string(heads ? "slstm" : "lstm") + (i == 0 ? "-forward" : "-backward"),
           .parameters = sizes({{"B", B}, {"T", T}, {"D", H}, {"d", d}}),
           .milliseconds = times[i].milliseconds,
           .gigaflops = 8 * static_cast<double>(B * T * H * d) / times[i].milliseconds / 1e6,
           .runs = options.runs,
           .how = times[i].how});
  }
  return results;
}

namespace {

// Forward and backward, each against a copy of as many bytes, those of backward twice those of forward. Flops
// are of the recurrence; chunks need others.
void add_both(std::vector<Result>& results, const Context& context, const Options& options,
              const std::string& name, const Sizes& parameters, const Work& forward,
              const Work& backward, double bytes, const std::array<double, 2>& flops) {
  const auto times = medians_and_copies(context, options, {forward, backward}, {bytes, 2 * bytes});
  for (int i = 0; i < 2; ++i)
    results.push_back({.name = name + (i == 0 ? "-forward" : "-backward"),
                       .parameters = parameters,
                       .milliseconds = times[i].milliseconds,
                       .gigabytes_per_second = (1 + i) * bytes / times[i].milliseconds / 1e6,
                       .gigaflops = flops[i] / times[i].milliseconds / 1e6,
                       .runs = options.runs,
                       .limit_milliseconds = times[i + 2].milliseconds,
                       .how = times[i].how});
}

// The tensors of a gated delta rule with H heads of K keys and values, and the two contracts over them.
struct DeltaRuleCase {
  Tensor q, k, v, d_o, o, dq, dk, dv, beta, g, dbeta, dg, state, checkpoints;
  DeltaRuleForward forward;
  DeltaRuleBackward backward;

  DeltaRuleCase(const Context& context, int64_t B, int64_t T, int64_t H, int64_t K) {
    Rng rng;
    const int64_t chunk = context.device() == DeviceKind::cuda ? kDeltaRuleSteps : kDeltaRuleChunk;
    const real length = 1 / std::sqrt(static_cast<real>(K));
    const Shape wide{B, T, H, K}, narrow{B, T, H};
    for (Tensor* x : {&q, &v, &d_o}) *x = uniform(context, wide, -1, 1, rng);
    k = uniform(context, wide, -length, length, rng);
    beta = uniform(context, narrow, 0, 1, rng);
    g = uniform(context, narrow, -1, 0, rng);
    for (Tensor* x : {&o, &dq, &dk, &dv}) *x = Tensor(context, wide);
    for (Tensor* x : {&dbeta, &dg}) *x = Tensor(context, narrow);
    state = Tensor(context, {B, H, K, K});
    checkpoints = Tensor(context, {B, (T + chunk - 1) / chunk, H, K, K});
    forward = {.q = q.data(),
               .k = k.data(),
               .v = v.data(),
               .beta = beta.data(),
               .g = g.data(),
               .entering = nullptr,
               .o = o.data(),
               .state = state.data(),
               .checkpoints = checkpoints.data(),
               .B = B,
               .T = T,
               .H = H,
               .HV = H,
               .n = 1,
               .K = K,
               .V = K,
               .scale = length,
               .chunk = chunk};
    backward = {forward,   d_o.data(),   nullptr,   dq.data(), dk.data(),
                dv.data(), dbeta.data(), dg.data(), nullptr};
  }
};

}  // namespace

// Bytes: q, k, v and o. The second size is a short task's.
std::vector<Result> delta_rule(const Context& context, const Options& options) {
  using BTHK = std::array<int64_t, 4>;
  const bool gpu = context.device() == DeviceKind::cuda;
  std::vector<Result> results;
  for (const auto& [B, T, H, K] : gpu ? std::array{BTHK{8, 2048, 16, 128}, BTHK{512, 17, 1, 128}}
                                      : std::array{BTHK{1, 256, 4, 128}, BTHK{64, 17, 1, 128}}) {
    const DeltaRuleCase at(context, B, T, H, K);
    launch(context, at.forward);  // the checkpoints that backward reads
    DeltaRuleForward alone = at.forward;
    alone.checkpoints = nullptr;
    const double elements = static_cast<double>(B * T * H * K),
                 flops = elements * static_cast<double>(K);
    add_both(
        results, context, options, "delta-rule", sizes({{"B", B}, {"T", T}, {"H", H}, {"d", K}}),
        [&] { launch(context, alone); }, [&] { launch(context, at.backward); },
        4 * elements * sizeof(real), {7 * flops, 20 * flops});
  }
  return results;
}

namespace {

// The tensors of Mamba-2's scan with H heads of P channels and N states, one group, and the contracts over them.
struct SsdCase {
  Tensor x, dt, a, b, c, skip, bias, y, state, checkpoints, dy, dx, ddt, da, db, dc, dskip, dbias;
  SsdScanBackward backward;

  SsdCase(const Context& context, int64_t B, int64_t T, int64_t H, int64_t P, int64_t N) {
    Rng rng;
    const int64_t chunk = context.device() == DeviceKind::cuda ? kSsdGpuChunk : kSsdChunk;
    const Shape wide{B, T, H, P}, narrow{B, T, 1, N};
    for (Tensor* each : {&x, &dy}) *each = uniform(context, wide, -1, 1, rng);
    for (Tensor* each : {&b, &c}) *each = uniform(context, narrow, -1, 1, rng);
    dt = uniform(context, {B, T, H}, -4, 0, rng);
    a = uniform(context, {H}, -8, -1, rng);
    for (Tensor* each : {&skip, &bias}) *each = uniform(context, {H}, -1, 1, rng);
    for (Tensor* each : {&y, &dx}) *each = Tensor(context, wide);
    for (Tensor* each : {&db, &dc}) *each = Tensor(context, narrow);
    for (Tensor* each : {&da, &dbias}) *each = Tensor(context, {H});
    ddt = Tensor(context, {B, T, H});
    dskip = Tensor(context, {H, P});
    state = Tensor(context, {B, H, P, N});
    checkpoints = Tensor(context, {B, H, (T + chunk - 1) / chunk, (P + 15) / 16 * 16, N});
    backward = {.forward = {.x = x.data(),
                            .dt = dt.data(),
                            .a = a.data(),
                            .b = b.data(),
                            .c = c.data(),
                            .skip = skip.data(),
                            .dt_bias = bias.data(),
                            .h0 = nullptr,
                            .y = y.data(),
                            .state = state.data(),
                            .checkpoints = checkpoints.data(),
                            .B = B,
                            .T = T,
                            .H = H,
                            .P = P,
                            .G = 1,
                            .N = N,
                            .dt_min = -std::numeric_limits<real>::infinity(),
                            .dt_max = std::numeric_limits<real>::infinity(),
                            .softplus = true,
                            .channel_skip = false,
                            .negative = false,
                            .exact = false,
                            .chunked = T > 1},
                .dy = dy.data(),
                .dstate = nullptr,
                .dx = dx.data(),
                .ddt = ddt.data(),
                .da = da.data(),
                .db = db.data(),
                .dc = dc.data(),
                .dskip = dskip.data(),
                .ddt_bias = dbias.data(),
                .dh0 = nullptr};
  }
};

}  // namespace

// Bytes: x and y.
std::vector<Result> ssd_scan(const Context& context, const Options& options) {
  using BTHPN = std::array<int64_t, 5>;
  const bool gpu = context.device() == DeviceKind::cuda;
  std::vector<Result> results;
  for (const auto& [B, T, H, P, N] :
       gpu ? std::array{BTHPN{8, 2048, 32, 64, 128}, BTHPN{512, 17, 4, 64, 16}}
           : std::array{BTHPN{2, 512, 8, 64, 64}, BTHPN{64, 17, 4, 64, 16}}) {
    const SsdCase at(context, B, T, H, P, N);
    SsdScanForward alone = at.backward.forward;
    launch(context, alone);  // the checkpoints that backward reads
    alone.checkpoints = nullptr;
    const double elements = static_cast<double>(B * T * H * P),
                 flops = elements * static_cast<double>(N);
    add_both(
        results, context, options, "ssd-scan",
        sizes({{"B", B}, {"T", T}, {"H", H}, {"P", P}, {"N", N}}), [&] { launch(context, alone); },
        [&] { launch(context, at.backward); }, 2 * elements * sizeof(real),
        {5 * flops, 13 * flops});
  }
  return results;
}

namespace {

// The tensors of an mLSTM with H heads of d, and the two contracts over them.
struct MlstmCase {
  Tensor q, k, v, igate, fgate, dh, h, c, n, m, steps, checkpoints, dq, dk, dv, digate, dfgate;
  MlstmForward forward;

  MlstmCase(const Context& context, int64_t B, int64_t T, int64_t H, int64_t d) {
    Rng rng;
    const Shape wide{B, T, H, d}, narrow{B, T, H};
    for (Tensor* x : {&q, &k, &v, &dh}) *x = uniform(context, wide, -1, 1, rng);
    igate = uniform(context, narrow, -4, 0, rng);
    fgate = uniform(context, narrow, 3, 6, rng);
    for (Tensor* x : {&h, &dq, &dk, &dv}) *x = Tensor(context, wide);
    for (Tensor* x : {&digate, &dfgate}) *x = Tensor(context, narrow);
    c = Tensor(context, {B, H, d, d});
    n = Tensor(context, {B, H, d});
    m = Tensor(context, {B, H});
    steps = Tensor(context, {2, B, T, H});
    checkpoints = Tensor(context, {B, H, (T + kMlstmChunk - 1) / kMlstmChunk, d + 1, d});
    forward = {.q = q.data(),
               .k = k.data(),
               .v = v.data(),
               .igate = igate.data(),
               .fgate = fgate.data(),
               .c0 = nullptr,
               .n0 = nullptr,
               .m0 = nullptr,
               .h = h.data(),
               .c = c.data(),
               .n = n.data(),
               .m = m.data(),
               .steps = steps.data(),
               .checkpoints = checkpoints.data(),
               .B = B,
               .T = T,
               .H = H,
               .d = d,
               .eps = real(1e-6)};
  }
  MlstmBackward backward() const {
    MlstmBackward back{forward};
    back.dh = dh.data();
    back.dq = dq.data();
    back.dk = dk.data();
    back.dv = dv.data();
    back.digate = digate.data();
    back.dfgate = dfgate.data();
    return back;
  }
};

}  // namespace

// Bytes: q, k, v and h.
std::vector<Result> mlstm(const Context& context, const Options& options) {
  const int64_t T = context.device() == DeviceKind::cuda ? 2048 : 256, B = T / 256, H = 4, d = 128;
  const MlstmCase at(context, B, T, H, d);
  const MlstmBackward back = at.backward();
  launch(context, at.forward);  // the checkpoints that backward reads
  const double elements = static_cast<double>(B * T * H * d), flops = elements * d;
  std::vector<Result> results;
  add_both(
      results, context, options, "mlstm", sizes({{"B", B}, {"T", T}, {"H", H}, {"d", d}}),
      [&] { launch(context, at.forward); }, [&] { launch(context, back); },
      4 * elements * sizeof(real), {5 * flops, 13 * flops});
  return results;
}

// Flops are of the pairs that are seen: 4 d forward and 10 d backward, though backward does more.
std::vector<Result> attention(const Context& context, const Options& options) {
  using BTSHd = std::array<int64_t, 5>;
  const bool gpu = context.device() == DeviceKind::cuda;
  std::vector<Result> results;
  Rng rng;
  for (const auto& [B, T, S, H, d] :
       gpu ? std::array{BTSHd{8, 2048, 2048, 16, 64}, BTSHd{8, 1, 2048, 16, 64}}
           : std::array{BTSHd{2, 512, 512, 4, 64}, BTSHd{2, 1, 512, 4, 64}}) {
    const Shape queries{B, T, H, d}, keys{B, S, H, d};
    const Tensor q = uniform(context, queries, -1, 1, rng),
                 dy = uniform(context, queries, -1, 1, rng);
    const Tensor k = uniform(context, keys, -1, 1, rng), v = uniform(context, keys, -1, 1, rng);
    const Tensor y(context, queries), dq(context, queries), dk(context, keys), dv(context, keys);
    const Tensor rows(context, Shape{B, H, T, 2});
    AttentionBackward backward{{.q = q.data(),
                                .k = k.data(),
                                .v = v.data(),
                                .slopes = nullptr,
                                .windows = nullptr,
                                .y = y.data(),
                                .rows = rows.data(),
                                .B = B,
                                .T = T,
                                .S = S,
                                .H = H,
                                .d = d,
                                .scale = real(0.125)}};
    backward.dy = dy.data();
    backward.dq = dq.data();
    backward.dk = dk.data();
    backward.dv = dv.data();
    const AttentionForward forward = backward;
    const auto times = medians(
        context, options, {[&] { launch(context, forward); }, [&] { launch(context, backward); }});
    const double pairs = static_cast<double>(B * H * T) *
                         (static_cast<double>(S) - (static_cast<double>(T) - 1) / 2);
    for (int i = 0; i < 2; ++i)
      results.push_back({.name = i == 0 ? "attention-forward" : "attention-backward",
                         .parameters = sizes({{"B", B}, {"T", T}, {"S", S}, {"H", H}, {"d", d}}),
                         .milliseconds = times[i].milliseconds,
                         .gigaflops = (i == 0 ? 4 : 10) * pairs * static_cast<double>(d) /
                                      times[i].milliseconds / 1e6,
                         .runs = options.runs,
                         .how = times[i].how});
  }
  return results;
}

}  // namespace fprnn::bench
