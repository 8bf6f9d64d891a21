#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/mlstm.h>
#include <fprnn/ops/op.h>

#include <cmath>

namespace fprnn {

FPRNN_KERNEL(int64_t mlstm_space(int64_t d))
FPRNN_KERNEL(void mlstm_forward(const MlstmForward&, real* space, int64_t unit))
FPRNN_KERNEL(void mlstm_backward(const MlstmBackward&, real* space, int64_t unit))

namespace {

void check(const MlstmInputs& in, std::string_view op) {
  require(in.q.shape().rank() == 4 && in.q.size(2) >= 1 && in.q.size(3) >= 1, op,
          "q must be (B, T, H, d) with H and d at least 1", in.q.shape());
  require(in.k.shape() == in.q.shape() && in.v.shape() == in.q.shape(), op,
          "q, k and v must have the same shape", in.q.shape(), in.k.shape(), in.v.shape());
  const Shape gates = in.q.shape().without(-1);
  require(in.igate.shape() == gates && in.fgate.shape() == gates, op,
          "igate and fgate must be (B, T, H): igate, fgate and q", in.igate.shape(),
          in.fgate.shape(), in.q.shape());
  const int64_t B = in.q.size(0), H = in.q.size(2), d = in.q.size(3);
  require(in.c.defined() == in.n.defined() && in.c.defined() == in.m.defined(), op,
          "c, n and m must all be given or none: how many are",
          in.c.defined() + in.n.defined() + in.m.defined());
  require(fits(in.c, Shape{B, H, d, d}), op, "c must be (B, H, d, d): c and q", in.c.shape(),
          in.q.shape());
  require(fits(in.n, Shape{B, H, d}), op, "n must be (B, H, d): n and q", in.n.shape(),
          in.q.shape());
  require(fits(in.m, Shape{B, H}), op, "m must be (B, H): m and q", in.m.shape(), in.q.shape());
  require<ValueError>(in.eps >= 0, op, "eps must not be negative", in.eps);
  require_together(op, in.q, in.k, in.v, in.igate, in.fgate, in.c, in.n, in.m);
}

// The inputs; outputs are not yet there.
MlstmForward contract_of(const MlstmInputs& in) {
  return {.q = in.q.data(),
          .k = in.k.data(),
          .v = in.v.data(),
          .igate = in.igate.data(),
          .fgate = in.fgate.data(),
          .c0 = data_or_null(in.c),
          .n0 = data_or_null(in.n),
          .m0 = data_or_null(in.m),
          .h = nullptr,
          .c = nullptr,
          .n = nullptr,
          .m = nullptr,
          .steps = nullptr,
          .checkpoints = nullptr,
          .B = in.q.size(0),
          .T = in.q.size(1),
          .H = in.q.size(2),
          .d = in.q.size(3),
          .eps = in.eps};
}

// What backward reads beside the inputs.
struct Kept {
  Tensor h, c, n, steps, checkpoints;
};

void give_gradients(const MlstmForward& forward, const MlstmInputs& in, Backward& back) {
  const Tensor dq = like(in.q), dk = like(in.k), dv = like(in.v), digate = like(in.igate),
               dfgate = like(in.fgate), dc0 = like(in.c), dn0 = like(in.n), dm0 = like(in.m);
  const auto cotangent = [&](int output) {
    return back.has(output) ? back.output(output).data() : nullptr;
  };
  MlstmBackward backward{forward};
  backward.dh = back.output(0).data();
  backward.dc = cotangent(1);
  backward.dn = cotangent(2);
  backward.dm = cotangent(3);
  backward.dq = dq.data();
  backward.dk = dk.data();
  backward.dv = dv.data();
  backward.digate = digate.data();
  backward.dfgate = dfgate.data();
  backward.dc0 = data_or_null(dc0);
  backward.dn0 = data_or_null(dn0);
  backward.dm0 = data_or_null(dm0);
  launch(in.q.context(), backward);
  give_all(back, {dq, dk, dv, digate, dfgate, dc0, dn0, dm0});
}

}  // namespace

MlstmResult mlstm(const MlstmInputs& in) {
  check(in, "mlstm");
  const Context& context = in.q.context();
  MlstmForward forward = contract_of(in);
  if (context.device() == DeviceKind::cuda && !has_fused(context, forward))
    return mlstm_by_steps(in);
  const int64_t B = in.q.size(0), T = in.q.size(1), H = in.q.size(2), d = in.q.size(3);
  const std::vector<Var> inputs{in.q, in.k, in.v, in.igate, in.fgate, in.c, in.n, in.m};
  const Tensor h(context, in.q.shape()), c(context, Shape{B, H, d, d}), n(context, Shape{B, H, d}),
      m(context, Shape{B, H});
  Tensor steps, checkpoints;
  if (std::ranges::any_of(inputs, &Var::differentiable)) {
    steps = Tensor(context, Shape{2, B, T, H});
    checkpoints =
        Tensor(context, Shape{B, H, T > kMlstmChunk ? pieces(T, kMlstmChunk) : 0, d + 1, d});
  }
  forward.h = h.data();
  forward.c = c.data();
  forward.n = n.data();
  forward.m = m.data();
  forward.steps = data_or_null(steps);
  forward.checkpoints = data_or_null(checkpoints);
  launch(context, forward);
  const Kept kept{h, c, n, steps, checkpoints};
  const auto outputs =
      record_all("mlstm", inputs, {h, c, n, m},
                 [in, forward, kept](Backward& back) { give_gradients(forward, in, back); });
  return {outputs[0], outputs[1], outputs[2], outputs[3]};
}

namespace {

// max(a, b), whose gradient goes to the larger.
Var larger(const Var& a, const Var& b) { return add(b, relu(sub(a, b))); }
Var negative(const Var& x) { return affine(x, -1, 0); }

}  // namespace

MlstmResult mlstm_by_steps(const MlstmInputs& in) {
  check(in, "mlstm_by_steps");
  const Context& context = in.q.context();
  const int64_t B = in.q.size(0), T = in.q.size(1), H = in.q.size(2), d = in.q.size(3);
  const bool given = in.c.defined();
  Var c = given ? in.c : Var(zeros(context, Shape{B, H, d, d}));
  Var n = given ? in.n : Var(zeros(context, Shape{B, H, d}));
  Var m = given ? in.m : Var(full(context, Shape{B, H}, kMlstmNothing));
  if (T == 0) return {Tensor(context, in.q.shape()), c, n, m};
  n = reshape(n, Shape{B, H, 1, d});
  m = reshape(m, Shape{B, H, 1, 1});

  const auto steps = [&](const Var& x, int64_t last) {
    std::vector<Var> each = split(reshape(x, Shape{B, T, H, last}), 1, std::vector<int64_t>(T, 1));
    for (Var& step : each) step = reshape(step, Shape{B, H, 1, last});
    return each;
  };
  const auto q = steps(in.q, d), v = steps(in.v, d), igate = steps(in.igate, 1);
  const auto k = steps(affine(in.k, real(1) / std::sqrt(static_cast<real>(d)), 0), d);
  const auto log_forget = steps(negative(softplus(negative(in.fgate))), 1);
  std::vector<Var> h;
  for (int64_t t = 0; t < T; ++t) {
    const Var before = add(log_forget[t], m);
    m = larger(before, igate[t]);
    const Var forget = exp(sub(before, m)), write = mul(k[t], exp(sub(igate[t], m)));
    c = add(mul(c, forget), batched_matmul(write, v[t], {.transpose_a = true}));
    n = add(mul(n, forget), write);
    const Var read = batched_matmul(q[t], n, {.transpose_b = true});
    const Var size = larger(add(relu(read), relu(negative(read))), exp(negative(m)));
    const Var h_t = div(batched_matmul(q[t], c), affine(size, 1, in.eps));
    h.push_back(reshape(h_t, Shape{B, 1, H, d}));
  }
  return {concat(h, 1), c, reshape(n, Shape{B, H, d}), reshape(m, Shape{B, H})};
}

// A unit is a head of a sequence.
void run(Cpu cpu, const MlstmForward& args) {
  run_units(cpu, FPRNN_SELECT(cpu, mlstm_forward), args, args.B * args.H, args.T * args.d * args.d,
            FPRNN_SELECT(cpu, mlstm_space)(args.d));
}

void run(Cpu cpu, const MlstmBackward& args) {
  run_units(cpu, FPRNN_SELECT(cpu, mlstm_backward), args, args.B * args.H, args.T * args.d * args.d,
            FPRNN_SELECT(cpu, mlstm_space)(args.d));
}

}  // namespace fprnn
