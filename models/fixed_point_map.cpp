#include <fprnn/models/cells/fused.h>
#include <fprnn/models/fixed_point_map.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/gated_norm.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>

namespace fprnn {

namespace {

constexpr size_t kOwn = 6;  // inputs that are no cell's

Var cut(const Var& x, int axis, int64_t begin, int64_t end) {
  return x.defined() ? slice(x, axis, begin, end) : Var();
}

}  // namespace

Vars FixedPointInputs::flat() const {
  Vars all{x, projected, gate, weight_y, norm_weight, norm_bias};
  all.insert(all.end(), signals.begin(), signals.end());
  all.insert(all.end(), weights.begin(), weights.end());
  return all;
}

FixedPointInputs FixedPointInputs::with(const Vars& flat) const {
  const auto first = flat.begin() + kOwn,
             second = first + static_cast<std::ptrdiff_t>(signals.size());
  return {flat[0], flat[1], flat[2],         flat[3],
          flat[4], flat[5], {first, second}, {second, flat.end()}};
}

FixedPointInputs FixedPointInputs::values() const {
  Vars all = flat();
  for (Var& x : all) x = x.value();
  return with(all);
}

FixedPointInputs FixedPointInputs::part(int axis, int64_t begin, int64_t end) const {
  FixedPointInputs part = *this;
  for (Var* x : {&part.x, &part.projected, &part.gate}) *x = cut(*x, axis, begin, end);
  for (Var& x : part.signals) x = cut(x, axis, begin, end);
  return part;
}

Past Past::rows(int64_t begin, int64_t end) const {
  return {cut(y, 0, begin, end), cut(carry, 0, begin, end)};
}

Var FixedPointMap::raw(const Var& y, const Past& past, const FixedPointInputs& in) const {
  if (!in.weight_y.defined()) return in.projected;
  return add(in.projected, linear(shift(y, past.y), in.weight_y));
}

FixedPointMap::Token FixedPointMap::token(const Var& p, const FixedPointInputs& in) const {
  const int64_t P = p.size(-1), own = cell.raw_size();
  const int64_t outputs = mixer.outputs();
  return {mixer.factors(P == outputs ? p : slice(p, -1, 0, outputs)),
          cell.token(own > 0 ? slice(p, -1, P - own, P) : Var(), in.signals, in.weights)};
}

Var FixedPointMap::mixed(const MixerFactors& q, const Var& x, const Var& y) const {
  return add(mixer.apply(q, sub(x, y)), y);
}

Var FixedPointMap::normed(const Var& v, const FixedPointInputs& in) const {
  if (in.norm_weight.defined()) return gated_norm(v, in.gate, in.norm_weight, in.norm_bias, eps);
  return in.gate.defined() ? mul(v, silu(in.gate)) : v;
}

FixedPointMap::Applied FixedPointMap::apply(const Var& y, const Past& past,
                                            const FixedPointInputs& in) const {
  if (const FusedForms* fused = cell.fused())
    if (auto applied = fused->apply(*this, y, past, in, nullptr)) return *std::move(applied);
  const Token at = token(raw(y, past, in), in);
  const auto [v, carry] = cell.scan(mixed(at.q, in.x, y), at.cell, past.carry);
  return {normed(v, in), carry};
}

StepEquation FixedPointMap::equation(const MixerFactors& q, Var offset, Var gain,
                                     const FixedPointInputs& in) const {
  if (in.gate.defined()) {
    const Var gate = silu(in.gate);
    offset = mul(offset, gate);
    gain = mul(gain, gate);
  }
  return {q, offset, gain, in.norm_weight, in.norm_bias, eps};
}

FixedPointMap::Opened FixedPointMap::open(const Past& past, const FixedPointInputs& in) const {
  const Token at = token(raw(in.x, past, in), in);  // of y nothing but the past's is seen
  const Cell::Opened opened = cell.open(mixer.apply(at.q, in.x), at.cell, past.carry);
  return {equation(at.q, opened.v, opened.gain, in), opened};
}

StepEquation FixedPointMap::equations_at(const Var& y, const Past& past,
                                         const FixedPointInputs& in) const {
  const Token at = token(raw(y, past, in), in);
  const Var fed_back = sub(y, mixer.apply(at.q, y));
  const Cell::Opened opened =
      cell.open(add(mixer.apply(at.q, in.x), fed_back), at.cell, past.carry);
  return equation(at.q, sub(opened.v, mul(opened.gain, fed_back)), opened.gain, in);
}

Var FixedPointMap::close(const Opened& step, const Var& y) const {
  return cell.close(step.cell, sub(y, mixer.apply(step.equation.q, y)));
}

}  // namespace fprnn
