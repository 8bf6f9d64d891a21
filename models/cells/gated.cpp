#include <fprnn/models/cells/gated.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/scan.h>

namespace fprnn {

namespace {

Var one_minus(const Var& x) { return affine(x, -1, 1); }

Var last_of(const Var& h) {
  const int64_t T = h.size(1);
  return T == 0 ? Var() : reshape(slice(h, 1, T - 1, T), {h.size(0), h.size(2)});
}

}  // namespace

Vars GatedCell::token(const Var&, const Vars& signals, const Vars&) const { return signals; }

Cell::Scanned GatedCell::scan(const Var& mixed, const Vars& token, const Var& carry) const {
  const Var& lambda = token[0];
  const Var h = fprnn::scan(lambda, mul(one_minus(lambda), mixed), {.h0 = carry});
  return {h, last_of(h)};
}

Cell::Opened GatedCell::open(const Var& mixed, const Vars& token, const Var& carry) const {
  const auto [h, last] = scan(mixed, token, carry);
  return {h, one_minus(token[0]), last, {}};
}

Var GatedCell::close(const Opened& step, const Var& moved) const {
  const Var h = add(step.v, mul(step.gain, moved));
  return reshape(h, h.shape().without(1));
}

}  // namespace fprnn
