#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/reduce.h>
#include <fprnn/ops/selective_scan.h>
#include <fprnn/ops/ssd_scan.h>

#include <cmath>

namespace fprnn {

namespace {

struct Sizes {
  int64_t B, T, H, P, G, N;
  explicit Sizes(const SsdScanInputs& in)
      : B(in.x.size(0)),
        T(in.x.size(1)),
        H(in.x.size(2)),
        P(in.x.size(3)),
        G(in.b.size(2)),
        N(in.b.size(3)) {}
};

// Where matrix products are faster than the recurrence (ssd_scan.md). Of the sizes of one head alone:
// other sequences and heads must not change a sequence's bits.
bool chunks_pay(const Sizes& of) { return of.T > 1 && of.P * of.N >= (of.T <= 32 ? 256 : 2048); }

void check_shapes(const SsdScanInputs& in) {
  const std::string_view op = "ssd_scan";
  require(in.x.shape().rank() == 4, op, "x must be (B, T, H, P)", in.x.shape());
  require(in.b.shape().rank() == 4 && in.b.size(3) >= 1 && in.b.size(0) == in.x.size(0) &&
              in.b.size(1) == in.x.size(1),
          op, "b must be (B, T, G, N) with N >= 1: b and x", in.b.shape(), in.x.shape());
  const Sizes of(in);
  require(in.c.shape() == in.b.shape(), op, "b and c must have the same shape", in.b.shape(),
          in.c.shape());
  require(of.G >= 1 && of.H % of.G == 0, op, "the groups of b must divide the heads of x", of.G,
          of.H);
  require(in.dt.shape() == in.x.shape().without(-1), op, "dt must be (B, T, H)", in.dt.shape(),
          in.x.shape());
  require(in.a.shape() == Shape{of.H}, op, "a must be (H)", in.a.shape(), in.x.shape());
  require(fits(in.skip, Shape{of.H}) || fits(in.skip, Shape{of.H, of.P}), op,
          "skip must be (H) or (H, P)", in.skip.shape(), in.x.shape());
  require(fits(in.dt_bias, Shape{of.H}), op, "dt_bias must be (H)", in.dt_bias.shape(),
          in.x.shape());
  require(fits(in.h0, Shape{of.B, of.H, of.P, of.N}), op, "h0 must be (B, H, P, N)", in.h0.shape(),
          in.x.shape());
  require<ValueError>(in.dt_min <= in.dt_max, op, "dt_min must not be above dt_max", in.dt_min,
                      in.dt_max);
  require_together(op, in.x, in.dt, in.a, in.b, in.c, in.skip, in.dt_bias, in.h0);
}

bool limited(const SsdScanInputs& in) { return in.dt_min > -INFINITY || in.dt_max < INFINITY; }

SsdScanForward contract_of(const SsdScanInputs& in, const Tensor& y, const Tensor& state,
                           const Tensor& checkpoints) {
  const Sizes of(in);
  return {.x = in.x.data(),
          .dt = in.dt.data(),
          .a = in.a.data(),
          .b = in.b.data(),
          .c = in.c.data(),
          .skip = data_or_null(in.skip),
          .dt_bias = data_or_null(in.dt_bias),
          .h0 = data_or_null(in.h0),
          .y = data_or_null(y),
          .state = data_or_null(state),
          .checkpoints = data_or_null(checkpoints),
          .B = of.B,
          .T = of.T,
          .H = of.H,
          .P = of.P,
          .G = of.G,
          .N = of.N,
          .dt_min = in.dt_min,
          .dt_max = in.dt_max,
          .softplus = in.softplus,
          .channel_skip = in.skip.defined() && in.skip.shape().rank() == 2,
          .negative = in.negative,
          .exact = in.exact,
          .chunked = !in.negative && chunks_pay(of)};
}

void give_gradients(const SsdScanForward& forward, const SsdScanInputs& in, Backward& back) {
  const Context& context = in.x.context();
  const Tensor dx = like(in.x), ddt = like(in.dt), da = like(in.a), db = like(in.b),
               dc = like(in.c), dskip(context, Shape{forward.H, forward.P}), ddt_bias = like(in.a),
               dh0 = like(in.h0);
  launch(context, SsdScanBackward{.forward = forward,
                                  .dy = back.output(0).data(),
                                  .dstate = back.has(1) ? back.output(1).data() : nullptr,
                                  .dx = dx.data(),
                                  .ddt = ddt.data(),
                                  .da = da.data(),
                                  .db = db.data(),
                                  .dc = dc.data(),
                                  .dskip = dskip.data(),
                                  .ddt_bias = ddt_bias.data(),
                                  .dh0 = data_or_null(dh0)});
  const Tensor skip = forward.channel_skip || !back.wants(5) ? dskip : sum(dskip, 1).value();
  give_all(back, {dx, ddt, da, db, dc, skip, ddt_bias, dh0});
}

// One number a head -> one a channel of it, and the heads' channels side by side.
Var to_channels(const Var& per_head, const Shape& with_channels, const Shape& flat) {
  return reshape(broadcast_to(per_head, with_channels), flat);
}

}  // namespace

Shape ssd_scan_checkpoints(const Context& context, int64_t B, int64_t T, int64_t H, int64_t P,
                           int64_t N) {
  if (context.device() == DeviceKind::cuda)
    return {B, H, std::max<int64_t>(pieces(T, kSsdGpuChunk) - 1, 0), P, N};
  return {B, H, pieces(T, kSsdChunk), pieces(P, 16) * 16, N};
}

SsdScanResult ssd_scan_by_parts(const SsdScanInputs& in) {
  check_shapes(in);
  require<UsageError>(!limited(in), "ssd_scan", "by parts there are no limits of dt", in.dt_min,
                      in.dt_max);
  const Sizes of(in);
  const int64_t B = of.B, T = of.T, H = of.H, P = of.P, G = of.G, N = of.N, D = H * P;
  const std::vector<int64_t> of_groups(G, D / G), one_each(G, N);
  const auto groups = [&](const Var& x, int axis, const std::vector<int64_t>& sizes) {
    return x.defined() ? split(x, axis, sizes) : std::vector<Var>(G);
  };
  const auto per_channel = [&](const Var& x) {
    if (!x.defined() || x.shape().rank() == 2) return x.defined() ? reshape(x, {D}) : x;
    return to_channels(reshape(x, {H, 1}), {H, P}, {D});
  };
  const auto x = groups(reshape(in.x, {B, T, D}), -1, of_groups);
  const auto dt =
      groups(to_channels(reshape(in.dt, {B, T, H, 1}), {B, T, H, P}, {B, T, D}), -1, of_groups);
  const auto a = groups(to_channels(reshape(in.a, {H, 1, 1}), {H, P, N}, {D, N}), 0, of_groups);
  const auto b = groups(reshape(in.b, {B, T, G * N}), -1, one_each);
  const auto c = groups(reshape(in.c, {B, T, G * N}), -1, one_each);
  const auto skip = groups(per_channel(in.skip), 0, of_groups);
  const auto bias = groups(per_channel(in.dt_bias), 0, of_groups);
  const auto h0 = groups(in.h0.defined() ? reshape(in.h0, {B, D, N}) : Var(), 1, of_groups);
  std::vector<Var> y, state;
  for (int64_t g = 0; g < G; ++g) {
    const SelectiveScanResult part = selective_scan({.u = x[g],
                                                     .delta = dt[g],
                                                     .a = a[g],
                                                     .b = b[g],
                                                     .c = c[g],
                                                     .skip = skip[g],
                                                     .delta_bias = bias[g],
                                                     .h0 = h0[g],
                                                     .softplus = in.softplus,
                                                     .negative = in.negative});
    y.push_back(part.y);
    state.push_back(part.state);
  }
  return {reshape(concat(y, -1), {B, T, H, P}), reshape(concat(state, 1), {B, H, P, N})};
}

SsdScanResult ssd_scan(const SsdScanInputs& in, const SsdScanTrace& trace) {
  check_shapes(in);
  const Context& context = in.x.context();
  const Sizes of(in);
  const Shape states{of.B, of.H, of.P, of.N};
  const Shape kept = ssd_scan_checkpoints(context, of.B, of.T, of.H, of.P, of.N);
  require(all_or_none({{trace.y, in.x.shape()}, {trace.state, states}, {trace.checkpoints, kept}}),
          "ssd_scan", "a trace must be y, state and checkpoints, all or none", in.x.shape(), kept);
  require_together("ssd_scan", in.x, trace.y, trace.state, trace.checkpoints);
  if (context.device() == DeviceKind::cuda && !has_fused(context, contract_of(in, {}, {}, {}))) {
    require<DeviceError>(!limited(in), "ssd_scan", "a GPU has no limits of dt at these sizes",
                         in.dt_min, in.dt_max);
    return ssd_scan_by_parts(in);
  }
  const std::vector<Var> inputs{in.x, in.dt, in.a, in.b, in.c, in.skip, in.dt_bias, in.h0};
  SsdScanTrace made = trace;
  if (context.device() == DeviceKind::cpu || !made.y.defined()) {
    const bool keeps = std::ranges::any_of(inputs, &Var::differentiable);
    made = {like(in.x), Tensor(context, states), keeps ? Tensor(context, kept) : Tensor()};
    launch(context, contract_of(in, made.y, made.state, made.checkpoints));
  }
  const SsdScanForward forward = contract_of(in, made.y, made.state, made.checkpoints);
  const auto outputs = record_all("ssd_scan", inputs, {made.y, made.state},
                                  [in, forward, checkpoints = made.checkpoints](Backward& back) {
                                    give_gradients(forward, in, back);
                                  });
  return {outputs[0], outputs[1]};
}

}  // namespace fprnn
