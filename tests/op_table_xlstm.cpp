// The cells of the xLSTM, by their kernels and by their definitions. Ranges keep what maxima choose
// between apart: a central difference must not see both sides.
#include <cmath>

#include "op_table.h"

namespace fprnn::tests {

namespace {

struct Sizes {
  int64_t B, T, H, d;
};
struct Range {
  double low, high;
};
// What the inputs are drawn from.
struct Draw {
  std::string name;
  Range keys, igate, fgate;  // of queries and keys; of the gates
  real eps;
};

using MlstmOp = MlstmResult (*)(const MlstmInputs&);

std::vector<Input> mlstm_inputs(const Sizes& size, const Draw& from, bool state) {
  const auto [B, T, H, d] = size;
  const auto [low, high] = from.keys;
  std::vector<Input> inputs{{{B, T, H, d}, low, high, true},
                            {{B, T, H, d}, low, high, true},
                            {{B, T, H, d}, -1, 1, true},
                            {{B, T, H}, from.igate.low, from.igate.high, true},
                            {{B, T, H}, from.fgate.low, from.fgate.high, true}};
  if (state) {
    inputs.push_back({{B, H, d, d}, -1, 1, true});
    inputs.push_back({{B, H, d}, low, high, true});
    inputs.push_back({{B, H}, from.igate.low, from.igate.high, true});
  }
  return inputs;
}

void add_mlstm(OpCases& cases, const std::string& name, MlstmOp op, const Sizes& size,
               const Draw& from, bool state) {
  cases.push_back({.op = name,
                   .variation = from.name + (state ? " state" : ""),
                   .inputs = mlstm_inputs(size, from, state),
                   .apply =
                       [=](const Vars& x) {
                         MlstmInputs in{
                             .q = x[0], .k = x[1], .v = x[2], .igate = x[3], .fgate = x[4]};
                         if (state) in.c = x[5], in.n = x[6], in.m = x[7];
                         in.eps = from.eps;
                         const MlstmResult of = op(in);
                         return Vars{of.h, of.c, of.n, of.m};
                       },
                   .reference =
                       [=](const Arrays& x) {
                         reference::Mlstm in{&x[0], &x[1], &x[2], &x[3], &x[4]};
                         if (state) in.c = &x[5], in.n = &x[6], in.m = &x[7];
                         in.nothing = kMlstmNothing;
                         in.eps = from.eps;
                         return reference::mlstm(in);
                       },
                   .gradient_floor = 0.01});
}

void add_mlstms(OpCases& cases) {
  const Draw reads{"reads", {0.75, 1}, {1, 2}, {-1, 1}, real(1e-6)},
      floor{"floor", {-0.5, 0.5}, {-4, -3}, {-1, 1}, real(1e-6)},
      eps{"eps", {0.75, 1}, {1, 2}, {-1, 1}, real(0.5)},
      large{"large", {0.75, 1}, {-50, 50}, {-50, 50}, 0};
  // The last four are the GPU's: rows of a tile and one more, over two chunks; the widest heads, and wider.
  const Sizes sizes[] = {{1, 1, 1, 1},   {3, 2, 2, 3},   {3, 9, 1, 5},   {2, 12, 2, 4},
                         {1, 64, 1, 9},  {1, 131, 2, 3}, {2, 3, 1, 70},  {1, 9, 1, 70},
                         {2, 0, 2, 3},   {0, 2, 1, 3},   {1, 65, 1, 64}, {1, 66, 1, 65},
                         {1, 2, 2, 128}, {1, 2, 1, 129}};
  for (const Sizes& size : sizes)
    for (const bool state : {false, true})
      for (const Draw& from : {reads, floor, eps}) {
        if (from.eps == eps.eps && size.T > 12) continue;  // too many maxima
        Draw each = from;
        if (size.T > 100) each.eps = 0;  // then m's maxima are no kinks
        add_mlstm(cases, "mlstm", mlstm, size, each, state);
        if (size.T <= 12 && size.d <= 9)
          add_mlstm(cases, "mlstm_by_steps", mlstm_by_steps, size, from, state);
      }
  add_mlstm(cases, "mlstm_by_steps", mlstm_by_steps, {3, 2, 2, 40}, floor, false);
  add_mlstm(cases, "mlstm", mlstm, {2, 70, 2, 4}, large, false);
}

// Valid inputs but for what `spoil` does to them.
template <class E = ShapeError, class Spoil>
void refuse_mlstm(ErrorCases& errors, const std::string& fragment, Spoil spoil) {
  errors.push_back(refuses<E>("mlstm", fragment, [=](const Context& c) {
    const Shape each{2, 5, 2, 3}, gate{2, 5, 2};
    MlstmInputs in{.q = tensor(c, each),
                   .k = tensor(c, each),
                   .v = tensor(c, each),
                   .igate = tensor(c, gate),
                   .fgate = tensor(c, gate)};
    spoil(in, c);
    mlstm(in);
  }));
}

void add_mlstm_errors(ErrorCases& errors) {
  using In = MlstmInputs;
  refuse_mlstm(errors, "q must be (B, T, H, d) with H and d at least 1, got (2, 5, 6)",
               [](In& in, const Context& c) {
                 in.q = tensor(c, {2, 5, 6});
               });
  refuse_mlstm(errors, "q, k and v must have the same shape, got (2, 5, 2, 3), (2, 5, 2, 4)",
               [](In& in, const Context& c) {
                 in.k = tensor(c, {2, 5, 2, 4});
               });
  refuse_mlstm(errors, "igate and fgate must be (B, T, H)", [](In& in, const Context& c) {
    in.fgate = tensor(c, {2, 5, 3});
  });
  refuse_mlstm(errors, "c, n and m must all be given or none: how many are, got 1",
               [](In& in, const Context& c) {
                 in.n = tensor(c, {2, 2, 3});
               });
  const auto with_state = [](const Shape& m) {
    return [=](In& in, const Context& c) {
      in.c = tensor(c, {2, 2, 3, 3});
      in.n = tensor(c, {2, 2, 3});
      in.m = tensor(c, m);
    };
  };
  refuse_mlstm(errors, "m must be (B, H): m and q, got (2, 3)", with_state({2, 3}));
  refuse_mlstm(errors, "c must be (B, H, d, d): c and q, got (2, 3, 2)",
               [=](In& in, const Context& c) {
                 with_state({2, 2})(in, c);
                 in.c = tensor(c, {2, 3, 2});
               });
  refuse_mlstm(errors, "n must be (B, H, d): n and q, got (2, 3)", [=](In& in, const Context& c) {
    with_state({2, 2})(in, c);
    in.n = tensor(c, {2, 3});
  });
  refuse_mlstm<ValueError>(errors, "eps must not be negative, got -1",
                           [](In& in, const Context&) { in.eps = -1; });
}

using SlstmOp = SlstmResult (*)(const SlstmInputs&);

void add_slstm(OpCases& cases, const std::string& name, SlstmOp op, const Sizes& size, bool bias,
               bool state) {
  const auto [B, T, H, d] = size;
  const int64_t D = H * d;
  const double bound = 0.7 / std::sqrt(static_cast<double>(d));
  std::vector<Input> inputs{{{B, T, 4 * D}, -1, 1, true}, {{H, 4 * d, d}, -bound, bound}};
  if (bias) inputs.push_back({{4 * D}, -0.5, 0.5});
  if (state)
    for (const auto& [low, high] : {Range{-1, 1}, Range{-1, 1}, Range{1, 2}, Range{0, 1}})
      inputs.push_back({{B, D}, low, high, true});
  const size_t at = 2 + bias;
  // Of c and n the quotient alone is smooth: m, which scales both, jumps from maximum to maximum. Few
  // maxima are not within a difference's step of such a place.
  const bool few = T <= 2 && inputs[0].shape.elements() <= 160;
  const auto all = [few](const Shape& x) { return few || x[1] == 0; };  // n may be 0
  cases.push_back({.op = name,
                   .variation = std::string(bias ? "bias " : "") + (state ? "state" : ""),
                   .inputs = inputs,
                   .apply =
                       [=](const Vars& x) {
                         SlstmInputs in{.x = x[0], .weight = x[1]};
                         if (bias) in.bias = x[2];
                         if (state)
                           in.h = x[at], in.c = x[at + 1], in.n = x[at + 2], in.m = x[at + 3];
                         const SlstmResult of = op(in);
                         if (!all(x[0].shape())) return Vars{of.h, div(of.c, of.n)};
                         return Vars{of.h, of.c, of.n, of.m};
                       },
                   .reference =
                       [=](const Arrays& x) {
                         reference::Slstm in{&x[0], &x[1]};
                         if (bias) in.bias = &x[2];
                         if (state)
                           in.h = &x[at], in.c = &x[at + 1], in.n = &x[at + 2], in.m = &x[at + 3];
                         in.nothing = kSlstmNothing;
                         const std::vector<Array> of = reference::slstm(in);
                         return all(x[0].shape) ? of : Arrays{of[0], reference::div(of[1], of[2])};
                       }});
}

// The last four are the GPU's: several sequences a block, weights beyond registers, single steps.
void add_slstms(OpCases& cases) {
  const Sizes sizes[] = {{1, 1, 1, 1},  {3, 2, 2, 3},    {1, 5, 1, 9},  {3, 7, 2, 8},
                         {2, 4, 3, 17}, {3, 33, 1, 5},   {17, 3, 2, 9}, {34, 4, 1, 3},
                         {2, 3, 1, 48}, {2, 0, 2, 3},    {0, 2, 1, 3},  {65, 2, 2, 5},
                         {2, 6, 1, 66}, {129, 2, 1, 65}, {2, 2, 2, 130}};
  for (const Sizes& size : sizes)
    for (const bool bias : {false, true})
      for (const bool state : {false, true}) {
        add_slstm(cases, "slstm", slstm, size, bias, state);
        if (size.B <= 3) add_slstm(cases, "slstm_by_steps", slstm_by_steps, size, bias, state);
      }
}

template <class Spoil>
void refuse_slstm(ErrorCases& errors, const std::string& fragment, Spoil spoil) {
  errors.push_back(refuses<ShapeError>("slstm", fragment, [=](const Context& c) {
    SlstmInputs in{.x = tensor(c, {2, 5, 24}), .weight = tensor(c, {2, 12, 3})};
    spoil(in, c);
    slstm(in);
  }));
}

void add_slstm_errors(ErrorCases& errors) {
  using In = SlstmInputs;
  refuse_slstm(errors, "weight must be (H, 4 d, d) with H and d at least 1, got (2, 9, 3)",
               [](In& in, const Context& c) {
                 in.weight = tensor(c, {2, 9, 3});
               });
  refuse_slstm(errors, "x must be (B, T, 4 D) with D = H d: x and weight, got (2, 5, 28)",
               [](In& in, const Context& c) {
                 in.x = tensor(c, {2, 5, 28});
               });
  refuse_slstm(errors, "bias must be (4 D): bias and x, got (6)",
               [](In& in, const Context& c) { in.bias = tensor(c, {6}); });
  refuse_slstm(errors, "h, c, n and m must all be given or none: how many are, got 2",
               [](In& in, const Context& c) {
                 in.c = in.m = tensor(c, {2, 6});
               });
  refuse_slstm(errors, "h, c, n and m must be (B, D): one of them and x, got (2, 5)",
               [](In& in, const Context& c) {
                 in.h = in.c = in.m = tensor(c, {2, 6});
                 in.n = tensor(c, {2, 5});
               });
}

}  // namespace

void add_xlstm(OpCases& cases, ErrorCases& errors) {
  add_mlstms(cases);
  add_mlstm_errors(errors);
  add_slstms(cases);
  add_slstm_errors(errors);
}

}  // namespace fprnn::tests
