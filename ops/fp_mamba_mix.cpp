#include <fprnn/core/vector.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_mix.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/low_rank.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/op.h>

namespace fprnn {

namespace {

int64_t outputs_of(const SweepMixer& mixer, int64_t D) {
  return mixer.rank > 0 ? mixer.rank * (D + 1)
                        : kronecker_sizes(D).triangles() + mixer.m1 + mixer.m2;
}

void check_shapes(const FpMambaMixInputs& in, const FpMambaMixTrace& trace) {
  const std::string_view op = "fp_mamba_mix";
  require(in.x.shape().rank() == 3 && in.y.shape() == in.x.shape(), op,
          "x and y must be (B, T, D), the same shape", in.x.shape(), in.y.shape());
  const int64_t B = in.x.size(0), T = in.x.size(1), D = in.x.size(2);
  require(in.projected.shape().rank() == 3 && in.projected.shape().without(-1) == Shape{B, T}, op,
          "projected must be (B, T, P), x (B, T, D)", in.projected.shape(), in.x.shape());
  const int64_t P = in.projected.size(2), outputs = outputs_of(in.mixer, D);
  require(in.N >= 1 && outputs <= in.bc_offset && in.bc_offset + 2 * in.N <= P, op,
          "p must hold the mixer's numbers, then b and c from `bc_offset` on: the mixer's, "
          "bc_offset, N and P",
          outputs, in.bc_offset, in.N, P);
  require(fits(in.projected_y, in.projected.shape()), op, "projected_y must be (B, T, P)",
          in.projected_y.shape(), in.projected.shape());
  require(fits(in.projected_previous, Shape{B, P}), op, "projected_previous must be (B, P)",
          in.projected_previous.shape(), in.projected.shape());
  require<ValueError>(in.eps > 0, op, "eps must be positive", in.eps);
  const Shape bc{B, T, in.N};
  require(all_or_none({{trace.mixed, in.x.shape()}, {trace.b, bc}, {trace.c, bc}}), op,
          "a trace must be (B, T, D), b and c (B, T, N), all or nothing", trace.mixed.shape(),
          trace.b.shape(), trace.c.shape(), in.x.shape());
  require_together(op, in.x, in.projected, in.projected_y, in.projected_previous, in.y, trace.mixed,
                   trace.b, trace.c);
}

int64_t gates_of(const SweepMixer& mixer) {
  return mixer.rank > 0 ? mixer.rank : mixer.m1 + mixer.m2;
}

// Q v for the mixer with these SiLUs and sigmoids of p.
Var mix(const FpMambaMixInputs& in, const Var& vectors, const Var& gates, const Var& v) {
  const SweepMixer& mixer = in.mixer;
  const int64_t D = v.size(-1);
  if (mixer.rank == 0)
    return kronecker(kronecker_factors(vectors, gates, D, mixer.norm, in.eps), v, mixer.scale);
  const Shape shape = vectors.shape().with(-1, mixer.rank).appended(D);
  const Var u = l2_normalize(reshape(vectors, shape), in.eps);
  return mixer.in_order ? householder(u, gates, v, mixer.scale) : dplr(u, gates, v, mixer.scale);
}

// The inputs in the order of the tape.
enum Input { kProjected, kProjectedY, kProjectedPrevious, kX, kY };

struct Numbers {
  Var vectors, gates, b, c;
};

Numbers numbers_by_parts(const FpMambaMixInputs& in, int64_t vectors, int64_t gates) {
  Var p = in.projected;
  if (in.projected_y.defined())
    p = add(p, shift(in.projected_y, in.projected_previous));
  else if (in.projected_previous.defined())
    p = add(p, shift(Var(zeros(p.context(), p.shape())), in.projected_previous));
  const std::vector<Var> parts = split(p, -1,
                                       {vectors, gates, in.bc_offset - vectors - gates, in.N, in.N,
                                        p.size(-1) - in.bc_offset - 2 * in.N});
  const auto direction = [&](const Var& part) {
    return in.bc_norm ? l2_normalize(part, in.eps) : part;
  };
  return {silu(parts[0]), sigmoid(parts[1]), direction(parts[3]), direction(parts[4])};
}

FpMambaTokens tokens_of(const FpMambaMixInputs& in) {
  return {.projected = in.projected.data(),
          .projected_y = data_or_null(in.projected_y),
          .projected_previous = data_or_null(in.projected_previous),
          .B = in.x.size(0),
          .T = in.x.size(1),
          .N = in.N,
          .P = in.projected.size(2),
          .bc_offset = in.bc_offset,
          .bc_norm = in.bc_norm,
          .eps = in.eps};
}

// Gives the gradients of the projections, and those that are there of x and y. b and c are outputs
// `b` and b + 1.
template <class Args>
void give_gradients(Args backward, int b, const FpMambaMixInputs& in, Backward& back,
                    const Tensor& dx = {}, const Tensor& dy = {}) {
  const Tensor dprojected = like(in.projected),
               dprojected_y = wanted_like(back, kProjectedY, in.projected_y),
               dprojected_previous = wanted_like(back, kProjectedPrevious, in.projected_previous);
  backward.db = back.output(b).data();
  backward.dc = back.output(b + 1).data();
  backward.dprojected = dprojected.data();
  backward.dprojected_y = data_or_null(dprojected_y);
  backward.dprojected_previous = data_or_null(dprojected_previous);
  launch_fused(in.x.context(), backward);
  give_all(back, {dprojected, dprojected_y, dprojected_previous, dx, dy});
}

Numbers numbers_of(const FpMambaMixInputs& in) {
  const int64_t gates = gates_of(in.mixer);
  const int64_t vectors = outputs_of(in.mixer, in.x.size(-1)) - gates;
  const Context& context = in.projected.context();
  FpMambaNumbersForward forward{tokens_of(in)};
  forward.V = vectors;
  forward.G = gates;
  if (!has_fused(context, forward)) return numbers_by_parts(in, vectors, gates);
  const auto of = [&](int64_t count) {
    return Tensor(context, in.projected.shape().with(-1, count));
  };
  const Tensor made[] = {of(vectors), of(gates), of(in.N), of(in.N)};
  forward.vectors = made[0].data();
  forward.gates = made[1].data();
  forward.b = made[2].data();
  forward.c = made[3].data();
  launch_fused(context, forward);
  const auto all = record_all("fp_mamba_mix", {in.projected, in.projected_y, in.projected_previous},
                              {std::begin(made), std::end(made)}, [forward, in](Backward& back) {
                                FpMambaNumbersBackward backward{};
                                backward.forward = forward;
                                backward.dvectors = back.output(0).data();
                                backward.dgates = back.output(1).data();
                                give_gradients(backward, 2, in, back);
                              });
  return {all[0], all[1], all[2], all[3]};
}

FpMambaMixResult op_by_op(const FpMambaMixInputs& in) {
  const auto [vectors, gates, b, c] = numbers_of(in);
  return {add(mix(in, vectors, gates, sub(in.x, in.y)), in.y), b, c};
}

}  // namespace

FpMambaMixResult fp_mamba_mix(const FpMambaMixInputs& in, const FpMambaMixTrace& trace) {
  check_shapes(in, trace);
  const Context& context = in.x.context();
  FpMambaMixForward forward{tokens_of(in)};
  forward.x = in.x.data();
  forward.y = in.y.data();
  forward.D = in.x.size(2);
  forward.mixer = in.mixer;
  if (!has_fused(context, forward)) return op_by_op(in);
  FpMambaMixTrace made = trace;
  if (!made.mixed.defined()) {
    const Shape bc{forward.B, forward.T, forward.N};
    made = {like(in.x), Tensor(context, bc), Tensor(context, bc)};
    forward.mixed = made.mixed.data();
    forward.b = made.b.data();
    forward.c = made.c.data();
    launch_fused(context, forward);
  }
  const auto outputs =
      record_all("fp_mamba_mix", {in.projected, in.projected_y, in.projected_previous, in.x, in.y},
                 {made.mixed, made.b, made.c}, [forward, in](Backward& back) {
                   const Tensor dx = wanted_like(back, kX, in.x), dy = wanted_like(back, kY, in.y);
                   FpMambaMixBackward backward{};
                   backward.forward = forward;
                   backward.dmixed = back.output(0).data();
                   backward.dx = data_or_null(dx);
                   backward.dy = data_or_null(dy);
                   give_gradients(backward, 1, in, back, dx, dy);
                 });
  return {outputs[0], outputs[1], outputs[2]};
}

}  // namespace fprnn
