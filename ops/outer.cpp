#include <fprnn/core/isa.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/outer.h>

namespace fprnn {

FPRNN_KERNEL(void add_outer_forward(const AddOuter&, int64_t begin, int64_t end))

Var add_outer(const Var& h, const Var& u, const Var& v) {
  const Shape& shape = h.shape();
  require(shape.rank() >= 2 && u.shape() == shape.without(-1) && v.shape() == shape.without(-2),
          "add_outer", "h must be (..., M, N), u (..., M) and v (..., N)", shape, u.shape(),
          v.shape());
  const int64_t M = h.size(-2), N = h.size(-1);
  require_together("add_outer", h, u, v);
  const Tensor out(h.context(), shape);
  launch(h.context(), AddOuter{.h = h.data(),
                               .u = u.data(),
                               .v = v.data(),
                               .out = out.data(),
                               .tokens = shape.elements_before(-2),
                               .M = M,
                               .N = N});
  return record("add_outer", {h, u, v}, out, [u = u.value(), v = v.value()](Backward& back) {
    const Tensor& dout = back.output();
    const Tensor column = v.reshaped(v.shape().appended(1));
    const Tensor row = u.reshaped(u.shape().with(-1, 1).appended(u.size(-1)));
    back.accumulate(0, dout);
    back.accumulate(1, batched_matmul(dout, column).value().reshaped(u.shape()));
    back.accumulate(2, batched_matmul(row, dout).value().reshaped(v.shape()));
  });
}

void run(Cpu cpu, const AddOuter& args) {
  run_pieces(cpu, FPRNN_SELECT(cpu, add_outer_forward), args, args.tokens,
             grain_for(args.M * args.N));
}

}  // namespace fprnn
