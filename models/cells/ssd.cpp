#include <fprnn/models/cells/ssd.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/outer.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

Vars SsdCell::token(const Var& p, const Vars& signals, const Vars& weights) const {
  const int64_t B = p.size(0), T = p.size(1), G = of_.groups, N = of_.states;
  Var bc = reshape(p, {B, T, 2 * G, N});
  if (of_.bc_norm) bc = l2_normalize(bc, of_.eps);
  const Vars parts = split(bc, 2, {G, G});
  return {signals[0], parts[0], parts[1], weights[0], weights[1], weights[2]};
}

// Exactly: f is compared with its own steps.
Cell::Scanned SsdCell::scan(const Var& mixed, const Vars& token, const Var& carry,
                            const SsdScanTrace& trace) const {
  const auto [v, state] =
      ssd_scan({.x = reshape(mixed, {mixed.size(0), mixed.size(1), of_.heads, of_.channels}),
                .dt = token[kDt],
                .a = token[kA],
                .b = token[kB],
                .c = token[kC],
                .skip = token[kSkip],
                .dt_bias = token[kDtBias],
                .h0 = carry,
                .exact = true},
               trace);
  return {reshape(v, mixed.shape()), state};
}

Cell::Opened SsdCell::open(const Var& mixed, const Vars& token, const Var& carry) const {
  const int64_t B = mixed.size(0), T = mixed.size(1), H = of_.heads, G = of_.groups;
  const Var step = softplus(add(token[kDt], token[kDtBias]));
  const Var bc = reshape(sum(mul(token[kB], token[kC]), -1), {B, T, G, 1});
  const Var of_heads = reshape(mul(reshape(step, {B, T, G, H / G}), bc), {B, T, H, 1});
  const Var& skip = token[kSkip];
  const Var gain = add(broadcast_to(of_heads, {B, T, H, of_.channels}),
                       skip.shape().rank() == 1 ? reshape(skip, {H, 1}) : skip);
  const auto [v, state] = scan(mixed, token, carry);
  return {v, reshape(gain, mixed.shape()), state, {step, token[kB]}};
}

// The state gains (step . moved) b^T, the heads of a group one below the other.
Var SsdCell::close(const Opened& opened, const Var& moved) const {
  const int64_t B = moved.size(0), H = of_.heads, P = of_.channels, groups = B * of_.groups;
  const int64_t rows = H / of_.groups * P;
  const Var write = mul(reshape(moved, {B, H, P}), reshape(opened.saved[0], {B, H, 1}));
  const Var after =
      add_outer(reshape(opened.carry, {groups, rows, of_.states}), reshape(write, {groups, rows}),
                reshape(opened.saved[1], {groups, of_.states}));
  return reshape(after, opened.carry.shape());
}

}  // namespace fprnn
