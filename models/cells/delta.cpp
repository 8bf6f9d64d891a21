#include <fprnn/models/cells/delta.h>
#include <fprnn/ops/delta_rule.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/outer.h>
#include <fprnn/ops/reduce.h>

#include <cmath>

namespace fprnn {

real DeltaCell::scale() const {
  return static_cast<real>(1 / std::sqrt(static_cast<double>(of_.keys)));
}

Vars DeltaCell::token(const Var& p, const Vars& signals, const Vars&) const {
  const int64_t B = p.size(0), T = p.size(1), H = of_.heads;
  const Vars parts = split(l2_normalize(reshape(p, {B, T, 2 * H, of_.keys}), of_.eps), 2, {H, H});
  return {parts[0], parts[1], signals[0], signals[1]};
}

// Exactly: f is compared with its own steps.
Cell::Scanned DeltaCell::scan(const Var& mixed, const Vars& token, const Var& carry) const {
  const int64_t B = mixed.size(0), T = mixed.size(1), H = of_.heads;
  const auto [v, state] = delta_rule({.q = token[kQuery],
                                      .k = reshape(token[kKey], {B, T, 1, H, of_.keys}),
                                      .v = reshape(mixed, {B, T, 1, H, of_.channels}),
                                      .beta = reshape(token[kBeta], {B, T, 1, H}),
                                      .g = token[kGate],
                                      .state = carry,
                                      .scale = scale(),
                                      .exact = true});
  return {reshape(v, mixed.shape()), state};
}

Cell::Opened DeltaCell::open(const Var& mixed, const Vars& token, const Var& carry) const {
  const int64_t B = mixed.size(0), T = mixed.size(1), H = of_.heads;
  const Var met = affine(sum(mul(token[kKey], token[kQuery]), -1), scale(), 0);
  const Var of_heads = reshape(mul(token[kBeta], met), {B, T, H, 1});
  const Var gain = reshape(broadcast_to(of_heads, {B, T, H, of_.channels}), mixed.shape());
  const auto [v, state] = scan(mixed, token, carry);
  return {v, gain, state, {token[kBeta], token[kKey]}};
}

// The state gains k (beta moved)^T.
Var DeltaCell::close(const Opened& opened, const Var& moved) const {
  const int64_t B = moved.size(0), H = of_.heads;
  const Var write = mul(reshape(moved, {B, H, of_.channels}), reshape(opened.saved[0], {B, H, 1}));
  return add_outer(opened.carry, reshape(opened.saved[1], {B, H, of_.keys}), write);
}

}  // namespace fprnn
