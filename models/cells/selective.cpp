#include <fprnn/models/cells/selective.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/outer.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

SelectiveCell::Token::Token(const Vars& v)
    : delta(v[0]), b(v[1]), c(v[2]), mask(v[3]), a(v[4]), skip(v[5]), delta_bias(v[6]) {}
SelectiveCell::Token::Token(const Var& delta, const Var& b, const Var& c, const Vars& signals,
                            const Vars& weights)
    : delta(delta),
      b(b),
      c(c),
      mask(signals[1]),
      a(weights[0]),
      skip(weights[1]),
      delta_bias(weights[2]) {}

Var SelectiveCell::delta_of(const Var& p, const Vars& signals, const Vars& weights) const {
  const int64_t R = options_.step_numbers;
  return R == 0 ? signals[0] : linear(slice(p, -1, p.size(-1) - R, p.size(-1)), weights[3]);
}

Vars SelectiveCell::token(const Var& p, const Vars& signals, const Vars& weights) const {
  const int64_t N = options_.states;
  const auto direction = [&](int64_t begin) {
    const Var part = slice(p, -1, begin, begin + N);
    return options_.bc_norm ? l2_normalize(part, options_.eps) : part;
  };
  return Token(delta_of(p, signals, weights), direction(0), direction(N), signals, weights);
}

Cell::Scanned SelectiveCell::scan(const Var& mixed, const Vars& token, const Var& carry) const {
  return scan(mixed, Token(token), carry, {});
}

Cell::Scanned SelectiveCell::scan(const Var& mixed, const Token& at, const Var& carry,
                                  const SelectiveScanTrace& trace) const {
  const auto [v, state] = selective_scan({.u = mixed,
                                          .delta = at.delta,
                                          .a = at.a,
                                          .b = at.b,
                                          .c = at.c,
                                          .skip = at.skip,
                                          .delta_bias = at.delta_bias,
                                          .h0 = carry,
                                          .keep = at.mask.defined() ? at.mask.value() : Tensor()},
                                         trace);
  return {v, state};
}

Cell::Opened SelectiveCell::open(const Var& mixed, const Vars& token, const Var& carry) const {
  const Token at(token);
  const Var step = softplus(add(at.delta, at.delta_bias));
  const Var bc = sum(mul(at.b, at.c), -1);
  const Var gain = add(mul(step, reshape(bc, bc.shape().appended(1))), at.skip);
  const auto [v, state] = scan(mixed, at, carry, {});
  return {v, gain, state, {step, at.b}};
}

// The state gains (step . moved) b^T.
Var SelectiveCell::close(const Opened& opened, const Var& moved) const {
  const Var &step = opened.saved[0], &b = opened.saved[1];
  const auto of_step = [](const Var& x) { return reshape(x, x.shape().without(1)); };
  return add_outer(opened.carry, of_step(mul(step, moved)), of_step(b));
}

}  // namespace fprnn
