#include <fprnn/core/isa.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/selective_scan.h>

namespace fprnn {

FPRNN_KERNEL(int64_t vector_lanes())
FPRNN_KERNEL(void pack_channels(const real* from, real* to, int64_t D, int64_t N, real scale))
FPRNN_KERNEL(void unpack_channels(const real* from, real* to, int64_t D, int64_t N))
FPRNN_KERNEL(void selective_scan_forward(const SelectiveScanForward&, const real* decay, int64_t b,
                                         int64_t first, int64_t last, real* scratch))
FPRNN_KERNEL(int64_t selective_scan_scratch(int64_t N, int64_t blocks))
FPRNN_KERNEL(void selective_scan_backward(const SelectiveScanBackward&, const real* decay,
                                          int64_t b, int64_t first, int64_t last, real* db,
                                          real* dc, real* da, real* dskip, real* dbias,
                                          real* scratch))
FPRNN_KERNEL(void sum_rows(const real* x, real* y, int64_t rows, int64_t inner))

namespace {

constexpr real kLog2e = static_cast<real>(1.4426950408889634);

void check_shapes(const SelectiveScanInputs& in, const SelectiveScanTrace& trace) {
  const std::string_view op = "selective_scan";
  require(in.u.shape().rank() == 3, op, "u must be (B, T, D)", in.u.shape());
  require(in.delta.shape() == in.u.shape(), op, "u and delta must have the same shape",
          in.u.shape(), in.delta.shape());
  const int64_t B = in.u.size(0), T = in.u.size(1), D = in.u.size(2);
  require(in.a.shape().rank() == 2 && in.a.size(0) == D && in.a.size(1) >= 1, op,
          "a must be (D, N) with N >= 1", in.a.shape(), in.u.shape());
  const int64_t N = in.a.size(1);
  require(in.b.shape() == Shape{B, T, N} && in.c.shape() == in.b.shape(), op,
          "b and c must be (B, T, N): b, c, u and a", in.b.shape(), in.c.shape(), in.u.shape(),
          in.a.shape());
  require(fits(in.skip, Shape{D}), op, "skip must be (D)", in.skip.shape(), in.u.shape());
  require(fits(in.delta_bias, Shape{D}), op, "delta_bias must be (D)", in.delta_bias.shape(),
          in.u.shape());
  require(fits(in.h0, Shape{B, D, N}), op, "h0 must be (B, D, N)", in.h0.shape(), in.u.shape());
  require(fits(in.keep, Shape{B, T}), op, "keep must be (B, T)", in.keep.shape(), in.u.shape());
  const Shape checkpoints = selective_scan_checkpoints(in.u.context(), B, T, D, N);
  require(all_or_none({{trace.y, in.u.shape()},
                       {trace.state, Shape{B, D, N}},
                       {trace.checkpoints, checkpoints}}),
          op, "a trace must be y (B, T, D), state (B, D, N) and checkpoints, all or nothing",
          in.u.shape(), in.a.shape());
  require_together(op, in.u, in.delta, in.a, in.b, in.c, in.skip, in.delta_bias, in.h0, in.keep,
                   trace.y, trace.state, trace.checkpoints);
}

// Backward as the tape sees it: allocates every gradient, runs, gives what is wanted.
void give_gradients(const SelectiveScanForward& forward, const SelectiveScanInputs& in,
                    Backward& back) {
  const Context& context = in.u.context();
  const Tensor du = like(in.u), ddelta = like(in.u), da = like(in.a), db = like(in.b),
               dc = like(in.b), dskip(context, Shape{forward.D}), ddelta_bias = like(dskip),
               dh0 = like(in.h0);
  launch(context, SelectiveScanBackward{.forward = forward,
                                        .dy = back.output(0).data(),
                                        .dstate = back.has(1) ? back.output(1).data() : nullptr,
                                        .du = du.data(),
                                        .ddelta = ddelta.data(),
                                        .da = da.data(),
                                        .db = db.data(),
                                        .dc = dc.data(),
                                        .dskip = dskip.data(),
                                        .ddelta_bias = ddelta_bias.data(),
                                        .dh0 = data_or_null(dh0)});
  give_all(back, {du, ddelta, da, db, dc, dskip, ddelta_bias, dh0});
}

}  // namespace

SelectiveScanResult selective_scan(const SelectiveScanInputs& in, const SelectiveScanTrace& trace) {
  check_shapes(in, trace);
  const Context& context = in.u.context();
  const int64_t B = in.u.size(0), T = in.u.size(1), D = in.u.size(2), N = in.a.size(1);
  const std::vector<Var> inputs{in.u, in.delta, in.a, in.b, in.c, in.skip, in.delta_bias, in.h0};
  const bool recorded = std::ranges::any_of(inputs, &Var::differentiable);
  SelectiveScanTrace made = trace;
  const bool computed = trace.y.defined() && context.device() == DeviceKind::cuda;
  if (!computed) {
    made = {like(in.u), Tensor(context, Shape{B, D, N}), {}};
    if (recorded)
      made.checkpoints = Tensor(context, selective_scan_checkpoints(context, B, T, D, N));
  }
  const SelectiveScanForward forward{.u = in.u.data(),
                                     .delta = in.delta.data(),
                                     .a = in.a.data(),
                                     .b = in.b.data(),
                                     .c = in.c.data(),
                                     .skip = data_or_null(in.skip),
                                     .delta_bias = data_or_null(in.delta_bias),
                                     .h0 = data_or_null(in.h0),
                                     .keep = data_or_null(in.keep),
                                     .y = made.y.data(),
                                     .state = made.state.data(),
                                     .checkpoints = data_or_null(made.checkpoints),
                                     .B = B,
                                     .T = T,
                                     .D = D,
                                     .N = N,
                                     .softplus = in.softplus,
                                     .negative = in.negative};
  if (!computed) launch(context, forward);
  const auto outputs = record_all("selective_scan", inputs, {made.y, made.state},
                                  [in, forward, checkpoints = made.checkpoints](Backward& back) {
                                    give_gradients(forward, in, back);
                                  });
  return {outputs[0], outputs[1]};
}

namespace {

// A unit of work is a sequence and a group of blocks, which are vectors of channels.
struct Units {
  int64_t lanes, blocks, per_group, groups;

  Units(Cpu cpu, int64_t D, int64_t group_channels)
      : lanes(FPRNN_SELECT(cpu, vector_lanes)()),
        blocks(pieces(D, lanes)),
        per_group(group_channels / lanes),
        groups(pieces(blocks, per_group)) {}
};

// visit(b, first block, last block, unit, scratch) for every unit of B sequences.
template <class Visit>
void for_units(Cpu cpu, const Units& units, int64_t B, int64_t N, const Visit& visit) {
  const auto run = [&](const Units& at, real* scratch, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit % at.groups * at.per_group;
      visit(unit / at.groups, first, std::min(at.blocks, first + at.per_group), unit, scratch);
    }
  };
  run_with_space(cpu, run, units, B * units.groups, kGrain,
                 FPRNN_SELECT(cpu, selective_scan_scratch)(N, units.per_group));
}

constexpr int64_t kGroupChannels = 256;

}  // namespace

void run(Cpu cpu, const SelectiveScanForward& args) {
  const auto kernel = FPRNN_SELECT(cpu, selective_scan_forward);
  const Units units(cpu, args.D, kGroupChannels);
  const Tensor decay(cpu.context, Shape{units.blocks * units.lanes, args.N});
  FPRNN_SELECT(cpu, pack_channels)(args.a, decay.data(), args.D, args.N, kLog2e);
  for_units(cpu, units, args.B, args.N,
            [&](int64_t b, int64_t first, int64_t last, int64_t, real* scratch) {
              kernel(args, decay.data(), b, first, last, scratch);
            });
}

// What groups add to db and dc, and sequences to the gradients of parameters, is kept apart and
// then added in order.
void run(Cpu cpu, const SelectiveScanBackward& args) {
  const SelectiveScanForward& in = args.forward;
  const int64_t B = in.B, T = in.T, N = in.N, D = in.D;
  const Units units(cpu, D, kGroupChannels);
  const int64_t groups = units.groups, channels = units.blocks * units.lanes;
  const Tensor decay(cpu.context, Shape{channels, N});
  FPRNN_SELECT(cpu, pack_channels)(in.a, decay.data(), D, N, kLog2e);
  const Tensor db(cpu.context, Shape{B, groups, T, N}), dc(cpu.context, Shape{B, groups, T, N});
  const Tensor da(cpu.context, Shape{B, channels, N});
  const Tensor dskip(cpu.context, Shape{B, channels}), dbias(cpu.context, Shape{B, channels});
  const auto kernel = FPRNN_SELECT(cpu, selective_scan_backward);
  for_units(cpu, units, B, N,
            [&](int64_t b, int64_t first, int64_t last, int64_t unit, real* scratch) {
              kernel(args, decay.data(), b, first, last, db.data() + unit * T * N,
                     dc.data() + unit * T * N, da.data() + b * channels * N,
                     dskip.data() + b * channels, dbias.data() + b * channels, scratch);
            });

  const auto add = FPRNN_SELECT(cpu, sum_rows);
  parallel_for(cpu, B, grain_for(groups * T * N), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      add(db.data() + b * groups * T * N, args.db + b * T * N, groups, T * N);
      add(dc.data() + b * groups * T * N, args.dc + b * T * N, groups, T * N);
    }
  });
  const Tensor total(cpu.context, Shape{channels, N});
  add(da.data(), total.data(), B, channels * N);
  FPRNN_SELECT(cpu, unpack_channels)(total.data(), args.da, D, N);
  for (const auto& [shares, to] : {std::pair{&dskip, args.dskip}, {&dbias, args.ddelta_bias}}) {
    add(shares->data(), total.data(), B, channels);
    std::copy_n(total.data(), D, to);
  }
}

}  // namespace fprnn
