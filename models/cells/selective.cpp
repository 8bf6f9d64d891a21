#include <fprnn/models/cells/selective.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/outer.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

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
  return token_of(delta_of(p, signals, weights), direction(0), direction(N), signals, weights);
}

Cell::Scanned SelectiveCell::scan(const Var& mixed, const Vars& token, const Var& carry,
                                  const SelectiveScanTrace& trace) const {
  const auto [v, state] = selective_scan({.u = mixed,
                                          .delta = token[kDelta],
                                          .a = token[kA],
                                          .b = token[kB],
                                          .c = token[kC],
                                          .skip = token[kSkip],
                                          .delta_bias = token[kDeltaBias],
                                          .h0 = carry,
                                          .keep = token[kMask].value()},
                                         trace);
  return {v, state};
}

Cell::Opened SelectiveCell::open(const Var& mixed, const Vars& token, const Var& carry) const {
  const Var step = softplus(add(token[kDelta], token[kDeltaBias]));
  const Var bc = sum(mul(token[kB], token[kC]), -1);
  const Var gain = add(mul(step, reshape(bc, bc.shape().appended(1))), token[kSkip]);
  const auto [v, state] = scan(mixed, token, carry, {});
  return {v, gain, state, {step, token[kB]}};
}

// The state gains (step . moved) b^T.
Var SelectiveCell::close(const Opened& opened, const Var& moved) const {
  const Var &step = opened.saved[0], &b = opened.saved[1];
  const auto of_step = [](const Var& x) { return reshape(x, x.shape().without(1)); };
  return add_outer(opened.carry, of_step(mul(step, moved)), of_step(b));
}

}  // namespace fprnn
