#include <fprnn/core/isa.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/pd_scan.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

FPRNN_KERNEL(int64_t pd_select_space(int64_t count, int64_t N, int64_t K))
FPRNN_KERNEL(void pd_select(const PdSelect&, int64_t begin, int64_t count, real* space))
FPRNN_KERNEL(void pd_select_backward(const PdSelectBackward&, int64_t begin, int64_t count,
                                     real* ddictionary, real* space))
FPRNN_KERNEL(void pd_scan_forward(const PdScanForward&, real* space, int64_t begin, int64_t end))
FPRNN_KERNEL(void pd_scan_backward(const PdScanBackward&, real* space, int64_t begin, int64_t end))

namespace {

// (N, N, K), slots and candidates swapped.
Var swapped(const Var& x) {
  const Tensor y = like(x);
  launch(x.context(), PdSwap{.from = x.data(), .to = y.data(), .N = x.size(0), .K = x.size(2)});
  return record("pd_scan", {x}, y,
                [](Backward& back) { back.accumulate(0, swapped(back.output()).value()); });
}

void check(std::string_view op, const PdScanInputs& in) {
  const Shape &of_d = in.d.shape(), &of_a = in.dictionary.shape();
  require(of_a.rank() == 3 && of_a[0] == of_a[1] && of_a[0] >= 1 && of_a[2] >= 1, op,
          "dictionary must be (N, N, K) with N, K >= 1", of_a);
  const int64_t N = of_a[0], K = of_a[2];
  require(of_d.rank() == 3 && of_d[2] == 2 * N, op, "d must be (B, T, 2 N): d, dictionary", of_d,
          of_a);
  require(in.b.shape() == of_d, op, "b must be (B, T, 2 N): b, d", in.b.shape(), of_d);
  require(in.selection.shape() == of_d.with(-1, K), op, "selection must be (B, T, K)",
          in.selection.shape(), of_d, of_a);
  require(fits(in.h0, of_d.without(1)), op, "h0 must be (B, 2 N): h0, d", in.h0.shape(), of_d);
  require_together(op, in.d, in.b, in.selection, in.dictionary, in.h0);
}

// With the dictionary by slot and candidate and the first state there.
PdScanInputs prepared(PdScanInputs in) {
  if (in.one_hot == OneHot::column) in.dictionary = swapped(in.dictionary);
  if (!in.h0.defined()) in.h0 = zeros(in.d.context(), in.d.shape().without(1));
  return in;
}

// What the gradient reads, and what the pointers of its contract point to.
struct Kept {
  PdScanForward forward;  // b in it may dangle
  IntTensor chosen;
  Tensor pi, dictionary, d, h0, h;
};

void give_gradients(const Kept& kept, Backward& back) {
  const Context& context = kept.h.context();
  const int64_t tokens = kept.forward.B * kept.forward.T;
  const Tensor dd = like(kept.d), db = like(kept.d), moved = like(kept.d), dh0 = like(kept.h0);
  launch(context, PdScanBackward{.forward = kept.forward,
                                 .dh = back.output().data(),
                                 .dd = dd.data(),
                                 .db = db.data(),
                                 .moved = moved.data(),
                                 .dh0 = dh0.data()});
  if (back.wants(0) || back.wants(1)) {
    const Tensor dselection = like(kept.pi), ddictionary = like(kept.dictionary);
    const bool column = kept.forward.one_hot == OneHot::column;
    const Tensor left = column ? db : shift(kept.h, kept.h0).value();
    launch(context, PdSelectBackward{.pi = kept.pi.data(),
                                     .dictionary = kept.dictionary.data(),
                                     .left = left.data(),
                                     .right = moved.data(),
                                     .dselection = dselection.data(),
                                     .ddictionary = ddictionary.data(),
                                     .tokens = tokens,
                                     .N = kept.forward.N,
                                     .K = kept.pi.size(-1)});
    if (back.wants(0)) back.accumulate(0, dselection);
    if (back.wants(1)) back.accumulate(1, ddictionary);
  }
  if (back.wants(2)) back.accumulate(2, dd);
  if (back.wants(3)) back.accumulate(3, db);
  if (back.wants(4)) back.accumulate(4, dh0);
}

}  // namespace

Var pd_scan(const PdScanInputs& inputs) {
  check("pd_scan", inputs);
  const Context& context = inputs.d.context();
  const int64_t B = inputs.d.size(0), T = inputs.d.size(1), N = inputs.dictionary.size(0);
  PdSelect select{.tokens = B * T, .N = N, .K = inputs.selection.size(-1)};
  if (context.device() == DeviceKind::cuda && !has_fused(context, select))
    return pd_scan_by_parts(inputs);
  const PdScanInputs in = prepared(inputs);
  const Tensor pi = like(in.selection), h = like(in.d);
  const IntTensor chosen(context, Shape{B, T, N});
  select.selection = in.selection.data();
  select.dictionary = in.dictionary.data();
  select.pi = pi.data();
  select.chosen = chosen.data();
  launch(context, select);
  const PdScanForward forward{.one_hot = in.one_hot,
                              .chosen = chosen.data(),
                              .d = in.d.data(),
                              .b = in.b.data(),
                              .h0 = in.h0.data(),
                              .h = h.data(),
                              .B = B,
                              .T = T,
                              .N = N};
  launch(context, forward);
  const Kept kept{forward, chosen, pi, in.dictionary.value(), in.d.value(), in.h0.value(), h};
  return record("pd_scan", {in.selection, in.dictionary, in.d, in.b, in.h0}, h,
                [kept](Backward& back) { give_gradients(kept, back); });
}

namespace {

struct Softmax {
  Var soft;
  Tensor hard;  // one where the largest is
};
// Over the last axis.
Softmax softmax_by_parts(const Var& x) {
  const Context& context = x.context();
  const int64_t n = x.size(-1);
  std::vector<real> ones = host_vector<real>(Shape{n, n});
  for (int64_t i = 0; i < n; ++i) ones[i * (n + 1)] = 1;
  const Tensor hard = embedding(Tensor(context, Shape{n, n}, ones), argmax(x.value())).value();
  const Shape row = x.shape().with(-1, 1);
  const Var e = exp(sub(x, reshape(sum(mul(x.value(), hard), -1), row)));
  return {div(e, reshape(sum(e, -1), row)), hard};
}

// Complex numbers as two Vars (B, N).
struct Complex {
  Var re, im;
};
Complex product(const Complex& x, const Complex& y) {
  return {sub(mul(x.re, y.re), mul(x.im, y.im)), add(mul(x.re, y.im), mul(x.im, y.re))};
}

// x (B, N), p (B, N, N): their product, by rows of p or, transposed, by its columns.
Var moved(const Var& x, const Var& p, bool transposed) {
  const Var rows = reshape(x, Shape{x.size(0), 1, x.size(1)});
  return reshape(batched_matmul(rows, p, {.transpose_b = transposed}), x.shape());
}

}  // namespace

Var pd_scan_by_parts(const PdScanInputs& inputs) {
  check("pd_scan_by_parts", inputs);
  const PdScanInputs in = prepared(inputs);
  const int64_t B = in.d.size(0), T = in.d.size(1), N = in.dictionary.size(0);
  if (B == 0 || T == 0) return Tensor(in.d.context(), in.d.shape());
  const Var pi = softmax_by_parts(in.selection).soft;
  const Var entries = reshape(in.dictionary, Shape{N * N, in.selection.size(-1)});
  const Var m = reshape(matmul(pi, entries, {.transpose_b = true}), Shape{B, T, N, N});
  const auto [soft, hard] = softmax_by_parts(m);
  const Var p = add(soft, sub(hard, soft.value()).value());  // hard, with the gradient of soft
  const std::vector<int64_t> steps(T, 1), halves{N, N};
  const std::vector<Var> all_p = split(p, 1, steps), all_d = split(in.d, 1, steps),
                         all_b = split(in.b, 1, steps);
  Var h = in.h0;
  std::vector<Var> all;
  for (int64_t t = 0; t < T; ++t) {
    const Var now = reshape(all_p[t], Shape{B, N, N});
    const auto complex = [&](const Var& x) {
      const std::vector<Var> parts = split(reshape(x, Shape{B, 2 * N}), -1, halves);
      return Complex{parts[0], parts[1]};
    };
    const Complex d = complex(all_d[t]), before = complex(h);
    Complex next;
    if (in.one_hot == OneHot::column) {
      const Complex g = product(d, before);
      next = {moved(g.re, now, false), moved(g.im, now, false)};
    } else {
      next = product(d, {moved(before.re, now, true), moved(before.im, now, true)});
    }
    h = add(concat({next.re, next.im}, -1), reshape(all_b[t], Shape{B, 2 * N}));
    all.push_back(reshape(h, Shape{B, 1, 2 * N}));
  }
  return concat(all, 1);
}

namespace {

// M of a slot, of so many tokens, fits the first-level cache, where that is enough for the products.
int64_t tokens_of_block(int64_t N) { return std::clamp<int64_t>((1 << 12) / N, 32, 256); }

}  // namespace

void run(Cpu cpu, const PdSwap& args) {
  const int64_t N = args.N, K = args.K;
  for (int64_t i = 0; i < N; ++i)
    run(cpu, CopyRows{.from = args.from + i * N * K,
                      .to = args.to + i * K,
                      .rows = N,
                      .length = K,
                      .from_stride = K,
                      .to_stride = N * K});
}

void run(Cpu cpu, const PdSelect& args) {
  const int64_t block = tokens_of_block(args.N);
  const int64_t size = FPRNN_SELECT(cpu, pd_select_space)(block, args.N, args.K);
  parallel_tasks(cpu, pieces(args.tokens, block), [&](int64_t piece) {
    const Tensor space(cpu.context, Shape{size});
    const int64_t begin = piece * block;
    FPRNN_SELECT(cpu, pd_select)
    (args, begin, std::min(block, args.tokens - begin), space.data());
  });
}

// The dictionary's gradient is a sum over tokens: in at most kSums parts, whose borders depend on
// the sizes alone.
void run(Cpu cpu, const PdSelectBackward& args) {
  constexpr int64_t kSums = 16;
  const int64_t entries = args.N * args.N * args.K, block = tokens_of_block(args.N);
  const int64_t size = FPRNN_SELECT(cpu, pd_select_space)(block, args.N, args.K);
  const int64_t blocks = pieces(args.tokens, block),
                part = std::max<int64_t>(1, pieces(blocks, kSums));
  const int64_t parts = std::max<int64_t>(1, pieces(blocks, part));
  const Tensor sums = zeros(cpu.context, Shape{parts, entries});
  parallel_tasks(cpu, pieces(blocks, part), [&](int64_t i) {
    const Tensor space(cpu.context, Shape{size});
    const int64_t end = std::min(args.tokens, (i + 1) * part * block);
    for (int64_t begin = i * part * block; begin < end; begin += block)
      FPRNN_SELECT(cpu, pd_select_backward)
    (args, begin, std::min(block, end - begin), sums.data() + i * entries, space.data());
  });
  run(cpu,
      SumMiddle{
          .x = sums.data(), .y = args.ddictionary, .outer = 1, .middle = parts, .inner = entries});
}

void run(Cpu cpu, const PdScanForward& args) {
  run_with_space(cpu, FPRNN_SELECT(cpu, pd_scan_forward), args, args.B, 30 * args.T * args.N,
                 2 * args.N);
}
void run(Cpu cpu, const PdScanBackward& args) {
  const PdScanForward& in = args.forward;
  run_with_space(cpu, FPRNN_SELECT(cpu, pd_scan_backward), args, in.B, 30 * in.T * in.N, 2 * in.N);
}

}  // namespace fprnn
