#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/block_linear.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/gate_weights.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/reduce.h>
#include <fprnn/ops/slstm.h>

namespace fprnn {

FPRNN_KERNEL(void slstm_forward(const SlstmForward&, const SequenceBlock&))
FPRNN_KERNEL(void slstm_backward(const SlstmBackward&, const SequenceBlock&))

namespace {

constexpr int64_t kGates = 4;

struct Sizes {
  int64_t B, T, H, d, D;
  explicit Sizes(const SlstmInputs& in)
      : B(in.x.size(0)), T(in.x.size(1)), H(in.weight.size(0)), d(in.weight.size(2)), D(H * d) {}
};

void check(const SlstmInputs& in, std::string_view op) {
  require(in.weight.shape().rank() == 3 && in.weight.size(0) >= 1 && in.weight.size(2) >= 1 &&
              in.weight.size(1) % kGates == 0 && in.weight.size(1) / kGates == in.weight.size(2),
          op, "weight must be (H, 4 d, d) with H and d at least 1", in.weight.shape());
  require(in.x.shape().rank() == 3 && in.x.size(-1) % kGates == 0 &&
              in.x.size(-1) / kGates == in.weight.size(0) * in.weight.size(2),
          op, "x must be (B, T, 4 D) with D = H d: x and weight", in.x.shape(), in.weight.shape());
  const Sizes of(in);
  require(fits(in.bias, Shape{kGates * of.D}), op, "bias must be (4 D): bias and x",
          in.bias.shape(), in.x.shape());
  const int given = in.h.defined() + in.c.defined() + in.n.defined() + in.m.defined();
  require(given == 0 || given == 4, op, "h, c, n and m must all be given or none: how many are",
          given);
  for (const Var* part : {&in.h, &in.c, &in.n, &in.m})
    require(fits(*part, Shape{of.B, of.D}), op, "h, c, n and m must be (B, D): one of them and x",
            part->shape(), in.x.shape());
  require_together(op, in.x, in.weight, in.bias, in.h, in.c, in.n, in.m);
}

// What the gradient reads: neither x, the bias nor m, whose memory may go.
struct Kept {
  Tensor weight, h0, c0, n0, h, c, n, saved;
};

// Of the weight: for each head and gate one product over all tokens.
Tensor weight_gradient(const SlstmForward& of, const Tensor& dx, const Tensor& before) {
  const Tensor dweight(dx.context(), Shape{of.H, kGates * of.d, of.d});
  const int64_t D = of.H * of.d;
  for (int64_t head = 0; head < of.H; ++head)
    for (int64_t gate = 0; gate < kGates; ++gate)
      launch(dx.context(), Gemm{.a = dx.data() + gate * D + head * of.d,
                                .b = before.data() + head * of.d,
                                .c = dweight.data() + (head * kGates + gate) * of.d * of.d,
                                .M = of.d,
                                .N = of.d,
                                .K = of.B * of.T,
                                .lda = kGates * D,
                                .ldb = D,
                                .ldc = of.d,
                                .transpose_a = true});
  return dweight;
}

void give_gradients(const SlstmForward& forward, const Kept& kept, Backward& back) {
  const Context& context = kept.h.context();
  const int64_t D = forward.H * forward.d;
  const auto cotangent = [&](int output) {
    return back.has(output) ? back.output(output).data() : nullptr;
  };
  const Tensor dx(context, kept.h.shape().with(-1, kGates * D));
  const Tensor dh0 = like(kept.h0), dc0 = like(kept.h0), dn0 = like(kept.h0), dm0 = like(kept.h0);
  launch(context, SlstmBackward{.forward = forward,
                                .dh = back.output(0).data(),
                                .dc = cotangent(1),
                                .dn = cotangent(2),
                                .dm = cotangent(3),
                                .dx = dx.data(),
                                .dh0 = data_or_null(dh0),
                                .dc0 = data_or_null(dc0),
                                .dn0 = data_or_null(dn0),
                                .dm0 = data_or_null(dm0)});
  const Tensor dweight =
      back.wants(1) ? weight_gradient(forward, dx, shift(kept.h, kept.h0).value()) : Tensor();
  const Tensor dbias = back.wants(2) ? sum_to(dx, Shape{kGates * D}).value() : Tensor();
  give_all(back, {dx, dweight, dbias, dh0, dc0, dn0, dm0});
}

}  // namespace

SlstmResult slstm(const SlstmInputs& in) {
  check(in, "slstm");
  const Context& context = in.x.context();
  const Sizes of(in);
  const std::vector<Var> inputs{in.x, in.weight, in.bias, in.h, in.c, in.n, in.m};
  const Shape state{of.B, of.D};
  const Tensor h(context, Shape{of.B, of.T, of.D}), c(context, state), n(context, state),
      m(context, state);
  Tensor saved;
  if (std::ranges::any_of(inputs, &Var::differentiable))
    saved = Tensor(context, Shape{of.B, of.T, kSlstmSaved, of.D});
  const SlstmForward forward{.x = in.x.data(),
                             .weight = in.weight.data(),
                             .bias = data_or_null(in.bias),
                             .h0 = data_or_null(in.h),
                             .c0 = data_or_null(in.c),
                             .n0 = data_or_null(in.n),
                             .m0 = data_or_null(in.m),
                             .h = h.data(),
                             .c = c.data(),
                             .n = n.data(),
                             .m = m.data(),
                             .saved = data_or_null(saved),
                             .B = of.B,
                             .T = of.T,
                             .H = of.H,
                             .d = of.d};
  launch(context, forward);
  const Kept kept{in.weight.value(), in.h.value(), in.c.value(), in.n.value(), h, c, n, saved};
  const auto outputs = record_all("slstm", inputs, {h, c, n, m}, [forward, kept](Backward& back) {
    give_gradients(forward, kept, back);
  });
  return {outputs[0], outputs[1], outputs[2], outputs[3]};
}

SlstmResult slstm_by_steps(const SlstmInputs& in) {
  check(in, "slstm_by_steps");
  const Sizes of(in);
  const Context& context = in.x.context();
  const Shape state{of.B, of.D};
  const auto or_full = [&](const Var& x, real value) {
    return x.defined() ? x : Var(full(context, state, value));
  };
  Var h = or_full(in.h, 0), c = or_full(in.c, 0), n = or_full(in.n, 0);
  Var m = or_full(in.m, kSlstmNothing);
  if (of.T == 0) return {Tensor(context, Shape{of.B, 0, of.D}), c, n, m};
  const Var x = in.bias.defined() ? add(in.x, in.bias) : in.x;
  std::vector<Var> all;
  for (const Var& x_t : split(x, 1, std::vector<int64_t>(of.T, 1))) {
    const auto from_x = split(reshape(x_t, Shape{of.B, kGates, of.D}), 1, {1, 1, 1, 1});
    const Var s = reshape(block_linear(h, in.weight), Shape{of.B, of.H, kGates, of.d});
    const auto from_h = split(s, 2, {1, 1, 1, 1});
    const auto a = [&](int gate) {
      return add(reshape(from_x[gate], state), reshape(from_h[gate], state));
    };
    const Var i = a(0), keep = sub(m, softplus(affine(a(1), -1, 0)));
    m = add(i, relu(sub(keep, i)));  // the larger
    const Var input = exp(sub(i, m)), forget = exp(sub(keep, m));
    c = add(mul(forget, c), mul(input, tanh(a(2))));
    n = add(mul(forget, n), input);
    h = mul(sigmoid(a(3)), div(c, n));
    all.push_back(reshape(h, Shape{of.B, 1, of.D}));
  }
  return {concat(all, 1), c, n, m};
}

namespace {

GateWeights weights_of(const SlstmForward& args) {
  return {args.weight, args.bias, args.H, kGates, args.d};
}

}  // namespace

void run(Cpu cpu, const SlstmForward& args) {
  const auto kernel = FPRNN_SELECT(cpu, slstm_forward);
  for_blocks(cpu, weights_of(args), Sweep::forward, args.B, args.T, 2,
             [&](const SequenceBlock& block) { kernel(args, block); });
}

void run(Cpu cpu, const SlstmBackward& args) {
  const SlstmForward& in = args.forward;
  const auto kernel = FPRNN_SELECT(cpu, slstm_backward);
  for_blocks(cpu, weights_of(in), Sweep::backward, in.B, in.T, 4 + kGates,
             [&](const SequenceBlock& block) { kernel(args, block); });
}

}  // namespace fprnn
