#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/delta_rule.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

FPRNN_KERNEL(void delta_rule_forward(const DeltaRuleForward&, real* space, int64_t unit))
FPRNN_KERNEL(void delta_rule_backward(const DeltaRuleBackward&, real* space, int64_t unit))
FPRNN_KERNEL(int64_t delta_rule_space(const DeltaRuleForward&, bool backward))

namespace {

void check_shapes(const DeltaRuleInputs& in, std::string_view op) {
  require(in.q.shape().rank() == 4 && in.k.shape().rank() == 5 && in.v.shape().rank() == 5, op,
          "q must be (B, T, H, d_k), k (B, T, n, H, d_k) and v (B, T, n, HV, d_v)", in.q.shape(),
          in.k.shape(), in.v.shape());
  const int64_t B = in.q.size(0), T = in.q.size(1), H = in.q.size(2), K = in.q.size(3);
  const int64_t n = in.k.size(2), HV = in.v.size(3), V = in.v.size(4);
  require(n >= 1 && in.k.shape() == Shape{B, T, n, H, K}, op,
          "k must be (B, T, n, H, d_k) with n >= 1: k and q", in.k.shape(), in.q.shape());
  require(in.v.shape() == Shape{B, T, n, HV, V}, op, "v must be (B, T, n, HV, d_v): v and k",
          in.v.shape(), in.k.shape());
  require(H >= 1 && HV >= 1 && HV % H == 0 && K >= 1 && V >= 1, op,
          "there must be heads and channels, and HV must be a multiple of H: q and v", in.q.shape(),
          in.v.shape());
  require(in.beta.shape() == Shape{B, T, n, HV}, op, "beta must be (B, T, n, HV): beta and v",
          in.beta.shape(), in.v.shape());
  require(fits(in.g, Shape{B, T, HV}), op, "g must be (B, T, HV): g and v", in.g.shape(),
          in.v.shape());
  require(fits(in.state, Shape{B, HV, K, V}), op,
          "the state must be (B, HV, d_k, d_v): state, q and v", in.state.shape(), in.q.shape(),
          in.v.shape());
  require_together(op, in.q, in.k, in.v, in.beta, in.g, in.state);
}

// Backward as the tape sees it: allocates every gradient, runs, gives what is wanted.
void give_gradients(const DeltaRuleForward& forward, const DeltaRuleInputs& in, Backward& back) {
  const Tensor dq = like(in.q), dk = like(in.k), dv = like(in.v), dbeta = like(in.beta),
               dg = like(in.g), dentering = like(in.state);
  DeltaRuleBackward backward{forward};
  backward.d_o = back.has(0) ? back.output(0).data() : nullptr;
  backward.dstate = back.has(1) ? back.output(1).data() : nullptr;
  backward.dq = dq.data();
  backward.dk = dk.data();
  backward.dv = dv.data();
  backward.dbeta = dbeta.data();
  backward.dg = data_or_null(dg);
  backward.dentering = data_or_null(dentering);
  launch(in.q.context(), backward);
  give_all(back, {dq, dk, dv, dbeta, dg, dentering});
}

}  // namespace

DeltaRuleResult delta_rule(const DeltaRuleInputs& in) {
  const Context& context = in.q.context();
  check_shapes(in, "delta_rule");
  const int64_t B = in.q.size(0), T = in.q.size(1), K = in.q.size(3);
  const int64_t n = in.k.size(2), HV = in.v.size(3), V = in.v.size(4);
  const bool gpu = context.device() == DeviceKind::cuda;
  DeltaRuleForward forward{
      .q = in.q.data(),
      .k = in.k.data(),
      .v = in.v.data(),
      .beta = in.beta.data(),
      .g = data_or_null(in.g),
      .entering = data_or_null(in.state),
      .o = nullptr,
      .state = nullptr,
      .checkpoints = nullptr,
      .B = B,
      .T = T,
      .H = in.q.size(2),
      .HV = HV,
      .n = n,
      .K = K,
      .V = V,
      .scale = in.scale,
      .chunk = gpu ? std::max<int64_t>(kDeltaRuleSteps / n, 1) : kDeltaRuleChunk,
      .exact = in.exact};
  if (gpu && !has_fused(context, forward)) return delta_rule_by_steps(in);
  const std::vector<Var> inputs{in.q, in.k, in.v, in.beta, in.g, in.state};
  const Tensor o(context, Shape{B, T, HV, V}), state(context, Shape{B, HV, K, V});
  Tensor checkpoints;
  if (std::ranges::any_of(inputs, &Var::differentiable))
    checkpoints = Tensor(context, Shape{B, pieces(T, forward.chunk), HV, K, V});
  forward.o = o.data();
  forward.state = state.data();
  forward.checkpoints = data_or_null(checkpoints);
  launch(context, forward);
  const auto outputs =
      record_all("delta_rule", inputs, {o, state},
                 [in, forward, checkpoints](Backward& back) { give_gradients(forward, in, back); });
  return {outputs[0], outputs[1]};
}

DeltaRuleResult delta_rule_by_steps(const DeltaRuleInputs& in) {
  check_shapes(in, "delta_rule_by_steps");
  const int64_t B = in.q.size(0), T = in.q.size(1), H = in.q.size(2), K = in.q.size(3);
  const int64_t n = in.k.size(2), HV = in.v.size(3), V = in.v.size(4);
  const Context& context = in.q.context();
  Var S = in.state.defined() ? in.state : Var(zeros(context, Shape{B, HV, K, V}));
  if (T == 0) return {Tensor(context, Shape{B, 0, HV, V}), S};

  // Rows of value heads, one tensor for each of `steps` steps.
  const auto of_heads = [&](const Var& x, int64_t steps) {
    const Var each = reshape(x, Shape{B, steps, H, 1, K});
    const Var repeated = broadcast_to(each, Shape{B, steps, H, HV / H, K});
    return split(reshape(repeated, Shape{B, steps, HV, 1, K}), 1, std::vector<int64_t>(steps, 1));
  };
  const auto of_steps = [&](const Var& x, int64_t steps, int64_t last) {
    return split(reshape(x, Shape{B, steps, HV, 1, last}), 1, std::vector<int64_t>(steps, 1));
  };
  const auto q = of_heads(affine(in.q, in.scale, 0), T), k = of_heads(in.k, T * n);
  const auto v = of_steps(in.v, T * n, V), beta = of_steps(in.beta, T * n, 1);
  const auto keep = in.g.defined() ? of_steps(exp(in.g), T, 1) : std::vector<Var>();
  const auto row = [&](const Var& x) { return reshape(x, Shape{B, HV, 1, x.size(-1)}); };
  std::vector<Var> o;
  for (int64_t t = 0; t < T; ++t) {
    if (in.g.defined()) S = mul(S, row(keep[t]));
    for (int64_t i = t * n; i < (t + 1) * n; ++i) {
      const Var error = sub(row(v[i]), batched_matmul(row(k[i]), S));
      S = add(S, batched_matmul(row(k[i]), mul(row(beta[i]), error), {.transpose_a = true}));
    }
    o.push_back(reshape(batched_matmul(row(q[t]), S), Shape{B, 1, HV, V}));
  }
  return {concat(o, 1), S};
}

void run(Cpu cpu, const DeltaRuleForward& args) {
  run_units(cpu, FPRNN_SELECT(cpu, delta_rule_forward), args, args.B * args.HV,
            args.T * args.n * args.K * args.V, FPRNN_SELECT(cpu, delta_rule_space)(args, false));
}

void run(Cpu cpu, const DeltaRuleBackward& args) {
  run_units(cpu, FPRNN_SELECT(cpu, delta_rule_backward), args, args.B * args.H,
            args.T * args.n * args.K * args.V, FPRNN_SELECT(cpu, delta_rule_space)(args, true));
}

}  // namespace fprnn
