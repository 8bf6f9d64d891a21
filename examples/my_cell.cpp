#include "my_cell.h"

#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/scan.h>

namespace extending {

using namespace fprnn;

namespace {

Var one_minus(const Var& x) { return affine(x, -1, 1); }
Var twice(const Var& x) { return concat({x, x}, -1); }

}  // namespace

Var MyCell::heard(const Var& share, const Var& both) const {
  const Var i = slice(both, -1, 0, channels_), j = slice(both, -1, channels_, 2 * channels_);
  return add(j, mul(share, sub(i, j)));
}

Vars MyCell::token(const Var& p, const Vars& signals, const Vars&) const {
  return {signals[0], sigmoid(p)};
}

Cell::Scanned MyCell::scan(const Var& mixed, const Vars& token, const Var& carry) const {
  const Var& decay = token[0];
  const Var both = fprnn::scan(decay, mul(one_minus(decay), twice(mixed)), {.h0 = carry});
  const int64_t T = both.size(1);
  const Var last = T == 0 ? carry : reshape(slice(both, 1, T - 1, T), carry_shape(both.size(0)));
  return {heard(token[1], both), last};
}

Cell::Opened MyCell::open(const Var& mixed, const Vars& token, const Var& carry) const {
  const auto [v, last] = scan(mixed, token, carry);
  const Var written = one_minus(token[0]);
  return {v, heard(token[1], written), last, {written}};
}

Var MyCell::close(const Opened& step, const Var& moved) const {
  const Var more = mul(step.saved[0], twice(moved));
  return add(step.carry, reshape(more, step.carry.shape()));
}

}  // namespace extending
