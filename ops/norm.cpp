#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/op.h>

namespace fprnn {

FPRNN_KERNEL(void norm_forward(const NormForward&, int64_t begin, int64_t end))
FPRNN_KERNEL(void norm_backward(const NormBackward&, int64_t begin, int64_t end, real* dweight,
                                real* dbias))
FPRNN_KERNEL(void sum_rows(const real* x, real* y, int64_t rows, int64_t inner))

namespace {

constexpr int64_t kNormPiece = 64;  // rows

Var normalize(std::string_view op, Norm norm, const Var& x, const Var& weight, const Var& bias,
              real eps) {
  require(x.shape().rank() >= 1, op, "x must have a last axis to normalise", x.shape());
  require<ValueError>(eps >= 0, op, "eps must not be negative", eps);
  const int64_t D = x.size(-1);
  for (const Var* parameter : {&weight, &bias})
    require(fits(*parameter, Shape{D}), op, "weight and bias must have the size of x's last axis",
            parameter->shape(), x.shape());
  require_together(op, x, weight, bias);
  Tensor y(x.context(), x.shape());
  const NormForward forward{.norm = norm,
                            .x = x.data(),
                            .weight = data_or_null(weight),
                            .bias = data_or_null(bias),
                            .y = y.data(),
                            .rows = x.shape().elements_before(-1),
                            .D = D,
                            .eps = eps};
  launch(x.context(), forward);
  return record(op, {x, weight, bias}, y, [forward, x, weight, bias](Backward& back) {
    const Tensor sum = back.given(0), dx = sum.defined() ? sum : like(x);
    const Tensor dweight = like(weight), dbias = like(bias);
    NormBackward backward{forward};
    backward.dy = back.output().data();
    backward.dx = dx.data();
    backward.dweight = data_or_null(dweight);
    backward.dbias = data_or_null(dbias);
    backward.accumulate = sum.defined();
    launch(x.context(), backward);
    give_all(back, {sum.defined() ? Tensor() : dx, dweight, dbias});
  });
}

}  // namespace

Var layer_norm(const Var& x, const Var& weight, const Var& bias, real eps) {
  return normalize("layer_norm", Norm::layer, x, weight, bias, eps);
}

Var rms_norm(const Var& x, const Var& weight, real eps) {
  return normalize("rms_norm", Norm::rms, x, weight, {}, eps);
}

Var l2_normalize(const Var& x, real eps) {
  require<ValueError>(eps > 0, "l2_normalize", "eps must be positive", eps);
  return normalize("l2_normalize", Norm::l2, x, {}, {}, eps);
}

Var any_norm(const Var& x, const Var& weight, const Var& bias, real eps) {
  if (!weight.defined()) return x;
  return bias.defined() ? layer_norm(x, weight, bias, eps) : rms_norm(x, weight, eps);
}

void check_norm(std::string_view op, const Tensor& weight, const Tensor& bias) {
  require(weight.defined() || !bias.defined(), op, "a bias comes with a weight", bias.shape());
}

void run(Cpu cpu, const NormForward& args) {
  run_pieces(cpu, FPRNN_SELECT(cpu, norm_forward), args, args.rows, grain_for(args.D));
}

void run(Cpu cpu, const NormBackward& args) {
  const auto kernel = FPRNN_SELECT(cpu, norm_backward);
  const int64_t count = pieces(args.rows, kNormPiece);
  const Tensor partial(cpu.context, Shape{2, count, args.D});  // of dweight and of dbias
  real* dweight = partial.data();
  real* dbias = dweight + count * args.D;
  parallel_for(cpu, args.rows, kNormPiece, [&](int64_t begin, int64_t end) {
    const int64_t at = begin / kNormPiece * args.D;
    kernel(args, begin, end, args.dweight != nullptr ? dweight + at : nullptr,
           args.dbias != nullptr ? dbias + at : nullptr);
  });
  const auto add = FPRNN_SELECT(cpu, sum_rows);
  if (args.dweight != nullptr) add(dweight, args.dweight, count, args.D);
  if (args.dbias != nullptr) add(dbias, args.dbias, count, args.D);
}

}  // namespace fprnn
