// The LSTM and the GRU: in one kernel, and from the ops of a step.
#include <cmath>

#include "op_table.h"

namespace fprnn::tests {

namespace {

struct Sizes {
  int64_t B, T, H;
};
struct Options {
  bool bias, h0, c0;
};

const Array* at(const Arrays& x, size_t i, bool present) { return present ? &x[i] : nullptr; }
Var at(const Vars& x, size_t i, bool present) { return present ? x[i] : Var(); }

std::vector<Input> inputs_of(const Sizes& size, int64_t G, const Options& with) {
  const auto [B, T, H] = size;
  const double bound = 1 / std::sqrt(static_cast<double>(H));
  std::vector<Input> inputs{{{B, T, G * H}, -1, 1, true}, {{G * H, H}, -bound, bound}};
  if (with.bias) inputs.push_back({{G * H}, -bound, bound});
  if (with.h0) inputs.push_back({{B, H}, -1, 1, true});
  if (with.c0) inputs.push_back({{B, H}, -1, 1, true});
  return inputs;
}

std::string text_of(const Options& with) {
  return std::string(with.bias ? "bias " : "") + (with.h0 ? "h0 " : "") + (with.c0 ? "c0 " : "");
}

void add_lstm(OpCases& cases, const Sizes& size, const Options& with, bool by_parts) {
  const size_t h0_at = 2 + with.bias, c0_at = h0_at + with.h0;
  cases.push_back({.op = by_parts ? "lstm_by_parts" : "lstm",
                   .variation = text_of(with),
                   .inputs = inputs_of(size, 4, with),
                   .apply =
                       [=](const Vars& x) {
                         const LstmInputs in{.x = x[0],
                                             .weight = x[1],
                                             .bias = at(x, 2, with.bias),
                                             .h0 = at(x, h0_at, with.h0),
                                             .c0 = at(x, c0_at, with.c0)};
                         const LstmResult of = by_parts ? lstm_by_parts(in) : lstm(in);
                         return Vars{of.h, of.c};
                       },
                   .reference =
                       [=](const Arrays& x) {
                         const auto of = reference::lstm({.x = &x[0],
                                                          .weight = &x[1],
                                                          .bias = at(x, 2, with.bias),
                                                          .h0 = at(x, h0_at, with.h0),
                                                          .c0 = at(x, c0_at, with.c0)});
                         return Arrays{of.first, of.second};
                       }});
}

void add_gru(OpCases& cases, const Sizes& size, const Options& with, bool by_parts) {
  cases.push_back({.op = by_parts ? "gru_by_parts" : "gru",
                   .variation = text_of(with),
                   .inputs = inputs_of(size, 3, with),
                   .apply =
                       [=](const Vars& x) {
                         const GruInputs in{.x = x[0],
                                            .weight = x[1],
                                            .bias = at(x, 2, with.bias),
                                            .h0 = at(x, 2 + with.bias, with.h0)};
                         return Vars{by_parts ? gru_by_parts(in) : gru(in)};
                       },
                   .reference =
                       [=](const Arrays& x) {
                         return Arrays{reference::gru({.x = &x[0],
                                                       .weight = &x[1],
                                                       .bias = at(x, 2, with.bias),
                                                       .h0 = at(x, 2 + with.bias, with.h0)})};
                       }});
}

template <class In, class Op>
void add_errors(ErrorCases& errors, const std::string& name, int64_t G, Op op) {
  const auto refuse = [&](const std::string& fragment, auto spoil) {
    errors.push_back(refuses<ShapeError>(name, fragment, [=](const Context& c) {
      In in{.x = tensor(c, {2, 5, 3 * G}), .weight = tensor(c, {3 * G, 3})};
      spoil(in, c);
      op(in);
    }));
  };
  refuse("(B, T, G H), got (5, ", [G](In& in, const Context& c) { in.x = tensor(c, {5, 3 * G}); });
  refuse("(B, T, G H), got (2, 5, 7)", [](In& in, const Context& c) {
    in.x = tensor(c, {2, 5, 7});
  });
  refuse("weight must be (G H, H) with H >= 1; weight, G, got (5, 3)",
         [](In& in, const Context& c) {
           in.weight = tensor(c, {5, 3});
         });
  refuse("(G H, H) with H >= 1; weight, G, got (0, 0)", [](In& in, const Context& c) {
    in.weight = tensor(c, {0, 0});
  });
  refuse("bias must be (G H), got (3)", [](In& in, const Context& c) { in.bias = tensor(c, {3}); });
  refuse("h0 must be (B, H), got (1, 3)", [](In& in, const Context& c) {
    in.h0 = tensor(c, {1, 3});
  });
  if constexpr (requires(In in) { in.c0; })
    refuse("c0 must be (B, H), got (2, 4)", [](In& in, const Context& c) {
      in.c0 = tensor(c, {2, 4});
    });
}

}  // namespace

// The last four are the GPU's: several sequences a block, weights beyond registers, single steps.
void add_recurrent(OpCases& cases, ErrorCases& errors) {
  const Sizes sizes[] = {{1, 1, 1},   {3, 1, 4},   {3, 2, 3},    {1, 5, 9},   {3, 7, 8}, {2, 4, 17},
                         {3, 33, 5},  {3, 20, 64}, {17, 3, 9},   {34, 5, 33}, {2, 0, 3}, {0, 2, 3},
                         {130, 2, 5}, {2, 6, 66},  {129, 2, 65}, {2, 2, 130}};
  for (const bool by_parts : {false, true})
    for (const Sizes& size : sizes) {
      for (const Options& with : {Options{false, false, false}, Options{true, true, true}}) {
        add_lstm(cases, size, with, by_parts);
        add_gru(cases, size, {with.bias, with.h0, false}, by_parts);
      }
      add_lstm(cases, size, {true, true, false}, by_parts);
      add_lstm(cases, size, {false, false, true}, by_parts);
    }
  add_errors<LstmInputs>(errors, "lstm", 4, [](const LstmInputs& in) { lstm(in); });
  add_errors<LstmInputs>(errors, "lstm_by_parts", 4,
                         [](const LstmInputs& in) { lstm_by_parts(in); });
  add_errors<GruInputs>(errors, "gru", 3, [](const GruInputs& in) { gru(in); });
  add_errors<GruInputs>(errors, "gru_by_parts", 3, [](const GruInputs& in) { gru_by_parts(in); });
}

}  // namespace fprnn::tests
