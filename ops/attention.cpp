#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/attention.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/reduce.h>

#include <cmath>

namespace fprnn {

FPRNN_KERNEL(void attention_forward(const AttentionForward&, real* space, int64_t unit))
FPRNN_KERNEL(void attention_backward(const AttentionBackward&, real* space, int64_t unit))
FPRNN_KERNEL(void attention_of_keys(const AttentionBackward&, real* space, int64_t unit))
FPRNN_KERNEL(void attention_of_queries(const AttentionBackward&, real* space, int64_t unit))
FPRNN_KERNEL(int64_t attention_space(const AttentionForward&))
FPRNN_KERNEL(int64_t attention_query_blocks(const AttentionForward&))
FPRNN_KERNEL(int64_t attention_key_blocks(const AttentionForward&))
FPRNN_KERNEL(void rotary(const Rotary&, int64_t begin, int64_t end))

namespace {

void check_inputs(const AttentionInputs& in) {
  const std::string_view op = "attention";
  require(in.q.shape().rank() == 4 && in.q.size(2) >= 1 && in.q.size(3) >= 1, op,
          "q must be (B, T, H, d) with heads and channels", in.q.shape());
  require(in.k.shape().rank() == 4 && in.k.size(1) >= in.q.size(1) &&
              in.k.shape() == in.q.shape().with(1, in.k.size(1)),
          op, "k must be (B, S, H, d) with S >= T: k and q", in.k.shape(), in.q.shape());
  require(in.v.shape() == in.k.shape(), op, "k and v must have the same shape", in.k.shape(),
          in.v.shape());
  const int64_t H = in.q.size(2);
  require(fits(in.slopes, Shape{H}), op, "slopes must be (H)", in.slopes.shape(), in.q.shape());
  require(!in.windows.defined() || in.windows.shape() == Shape{H}, op, "windows must be (H)",
          in.windows.shape(), in.q.shape());
  require_together(op, in.q, in.k, in.v);
}

AttentionForward contract_of(const AttentionInputs& in, const Tensor& y, const Tensor& rows) {
  return {.q = in.q.data(),
          .k = in.k.data(),
          .v = in.v.data(),
          .slopes = data_or_null(in.slopes),
          .windows = data_or_null(in.windows),
          .y = data_or_null(y),
          .rows = data_or_null(rows),
          .B = in.q.size(0),
          .T = in.q.size(1),
          .S = in.k.size(1),
          .H = in.q.size(2),
          .d = in.q.size(3),
          .scale = in.scale};
}

}  // namespace

Var attention(const AttentionInputs& in) {
  check_inputs(in);
  const Context& context = in.q.context();
  if (context.device() == DeviceKind::cuda && !has_fused(context, contract_of(in, {}, {})))
    return attention_by_parts(in);
  const std::vector<Var> inputs{in.q, in.k, in.v};
  const Tensor y = like(in.q);
  const Tensor rows = std::ranges::any_of(inputs, &Var::differentiable)
                          ? Tensor(context, Shape{in.q.size(0), in.q.size(2), in.q.size(1), 2})
                          : Tensor();
  const AttentionForward forward = contract_of(in, y, rows);
  launch(context, forward);
  return record("attention", inputs, y, [in, forward, y, rows](Backward& back) {
    const Tensor dq = like(in.q), dk = like(in.k), dv = like(in.v);
    AttentionBackward backward{forward};
    backward.dy = back.output().data();
    backward.dq = dq.data();
    backward.dk = dk.data();
    backward.dv = dv.data();
    launch(in.q.context(), backward);
    give_all(back, {dq, dk, dv});
  });
}

namespace {

// What a head adds to its scores, and 1 where a query sees a key, else 0; both (T, S).
struct Places {
  std::vector<real> bias, seen;

  Places(const AttentionInputs& in, real slope, int64_t window) {
    const int64_t T = in.q.size(1), S = in.k.size(1);
    bias = seen = host_vector<real>({T, S});
    for (int64_t t = 0; t < T; ++t)
      for (int64_t s = 0; s < S; ++s) {
        const int64_t distance = S - T + t - s;
        bias[t * S + s] = -slope * static_cast<real>(distance);
        seen[t * S + s] = distance >= 0 && (window <= 0 || distance < window) ? 1 : 0;
      }
  }
};

// The largest number of each row, (..., n) -> (..., 1), by halves: max(a, b) = b + relu(a - b).
Var row_maxima(Var x) {
  for (int64_t n = x.size(-1); n > 1; n = x.size(-1)) {
    const int64_t half = (n + 1) / 2;
    const Var b = slice(x, -1, n - half, n);
    x = add(b, relu(sub(slice(x, -1, 0, half), b)));
  }
  return x;
}

// One head: q (B, T, d), k and v (B, S, d) -> (B, T, d). A maximum is a constant of the gradient.
Var attend(const Var& q, const Var& k, const Var& v, real scale, const Var& bias, const Var& seen) {
  constexpr real kUnseen = 1e4;  // larger numbers would take the digits of a row's maximum
  const Var products = affine(batched_matmul(q, k, {.transpose_b = true}), scale, 0);
  const Var scores = add(products, add(bias, affine(seen, kUnseen, -kUnseen)));
  const Var weights = mul(exp(sub(scores, row_maxima(scores.value()))), seen);
  const Var total = sum(weights, -1);
  return batched_matmul(div(weights, reshape(total, total.shape().appended(1))), v);
}

}  // namespace

Var attention_by_parts(const AttentionInputs& in) {
  check_inputs(in);
  const int64_t B = in.q.size(0), T = in.q.size(1), S = in.k.size(1), H = in.q.size(2);
  const int64_t d = in.q.size(3);
  const Context& context = in.q.context();
  if (T == 0) return Tensor(context, in.q.shape());
  const std::vector<int64_t> one_each(H, 1);
  const auto q = split(in.q, 2, one_each), k = split(in.k, 2, one_each),
             v = split(in.v, 2, one_each);
  const auto slopes = in.slopes.defined() ? in.slopes.to_vector() : std::vector<real>(H);
  const auto windows = in.windows.defined() ? in.windows.to_vector() : std::vector<int32_t>(H);
  std::vector<Var> heads;
  for (int64_t h = 0; h < H; ++h) {
    const Places of(in, slopes[h], windows[h]);
    const Var y =
        attend(reshape(q[h], {B, T, d}), reshape(k[h], {B, S, d}), reshape(v[h], {B, S, d}),
               in.scale, Tensor(context, {T, S}, of.bias), Tensor(context, {T, S}, of.seen));
    heads.push_back(reshape(y, {B, T, 1, d}));
  }
  return concat(heads, 2);
}

namespace {

// The cosines of positions first .. first + T - 1 and then their sines, (T, 2, r / 2).
Tensor turns_of(const Context& context, int64_t T, int64_t r, double base, int64_t first) {
  if (context.device() == DeviceKind::cuda) {
    const Tensor turns(context, Shape{T, 2, r / 2});
    launch_fused(context, RotaryTurns{turns.data(), T, r, base, first});
    return turns;
  }
  std::vector<real> turns = host_vector<real>({T, r});
  for (int64_t j = 0; j < r / 2; ++j) {
    const double rate = std::pow(base, -2 * static_cast<double>(j) / static_cast<double>(r));
    for (int64_t t = 0; t < T; ++t) {
      const double angle = static_cast<double>(first + t) * rate;
      turns[t * r + j] = static_cast<real>(std::cos(angle));
      turns[t * r + r / 2 + j] = static_cast<real>(std::sin(angle));
    }
  }
  return Tensor(context, Shape{T, 2, r / 2}, turns);
}

void check_rotary(const Var& x, int64_t r, double base, int64_t first) {
  require(x.shape().rank() == 4, "rotary", "x must be (B, T, H, d)", x.shape());
  require<ValueError>(r >= 0 && r <= x.size(3) && r % 2 == 0, "rotary",
                      "the channels that turn must be an even number of those there are", r,
                      x.size(3));
  require<ValueError>(base > 0 && std::isfinite(base) && first >= 0, "rotary",
                      "the base must be positive and the first position not negative", base, first);
}

}  // namespace

Var rotary(const Var& x, int64_t r, double base, int64_t first) {
  check_rotary(x, r, base, first);
  const Context& context = x.context();
  const Tensor turns = turns_of(context, x.size(1), r, base, first);
  const auto turned = [context, turns, r](const Tensor& from, bool back) {
    const Tensor to = like(from);
    launch(context, Rotary{.x = from.data(),
                           .turns = turns.data(),
                           .y = to.data(),
                           .B = from.size(0),
                           .T = from.size(1),
                           .H = from.size(2),
                           .d = from.size(3),
                           .r = r,
                           .back = back});
    return to;
  };
  return record("rotary", {x}, turned(x.value(), false),
                [turned](Backward& back) { back.accumulate(0, turned(back.output(), true)); });
}

Var rotary_by_parts(const Var& x, int64_t r, double base, int64_t first) {
  check_rotary(x, r, base, first);
  const int64_t T = x.size(1), half = r / 2;
  const std::vector<Var> turns =
      split(turns_of(x.context(), T, r, base, first), 1, std::vector<int64_t>{1, 1});
  const std::vector<Var> parts = split(x, -1, {half, half, x.size(3) - r});
  const Var cosine = reshape(turns[0], {T, 1, half}), sine = reshape(turns[1], {T, 1, half});
  return concat({sub(mul(parts[0], cosine), mul(parts[1], sine)),
                 add(mul(parts[1], cosine), mul(parts[0], sine)), parts[2]},
                -1);
}

namespace {

// The later blocks of a head have more keys: many pieces even that out.
template <class Kernel, class Args>
void for_units(Cpu cpu, const Kernel& kernel, const Args& args, int64_t units) {
  const int64_t blocks = std::max<int64_t>(1, units / std::max<int64_t>(1, args.B * args.H));
  run_units(cpu, kernel, args, units, args.S * pieces(args.T, blocks) * args.d,
            FPRNN_SELECT(cpu, attention_space)(args), 16);
}

}  // namespace

void run(Cpu cpu, const AttentionForward& args) {
  for_units(cpu, FPRNN_SELECT(cpu, attention_forward), args,
            args.B * args.H * FPRNN_SELECT(cpu, attention_query_blocks)(args));
}

// Heads of sequences are units where they occupy all threads; else blocks of keys and then blocks
// of queries are, which makes every a twice. Sums are in the same order either way.
void run(Cpu cpu, const AttentionBackward& args) {
  const int64_t units = args.B * args.H;
  if (units >= 2 * cpu.context.threads() || cpu.context.threads() == 1)
    return for_units(cpu, FPRNN_SELECT(cpu, attention_backward), args, units);
  for_units(cpu, FPRNN_SELECT(cpu, attention_of_keys), args,
            units * FPRNN_SELECT(cpu, attention_key_blocks)(args));
  for_units(cpu, FPRNN_SELECT(cpu, attention_of_queries), args,
            units * FPRNN_SELECT(cpu, attention_query_blocks)(args));
}

void run(Cpu cpu, const Rotary& args) {
  run_pieces(cpu, FPRNN_SELECT(cpu, rotary), args, args.B * args.T, grain_for(args.H * args.d));
}

}  // namespace fprnn
