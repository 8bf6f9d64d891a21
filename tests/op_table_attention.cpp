// Attention and rotary positions, by their kernels and by their definitions.
#include <string>

#include "op_table.h"

namespace fprnn::tests {

namespace {

struct Sizes {
  int64_t B, T, S, H, d;
};
struct Options {
  bool slopes, windows;
};

constexpr double kScale = 0.7, kBase = 50;
// Of heads: a window within a block of keys, none, one over several blocks.
constexpr int32_t kWindows[] = {3, 0, 70};

using Attention = Var (*)(const AttentionInputs&);
using Rotation = Var (*)(const Var&, int64_t, double, int64_t);

AttentionInputs inputs_of(const Vars& x, const Sizes& of, const Options& with) {
  AttentionInputs in{.q = x[0], .k = x[1], .v = x[2], .scale = static_cast<real>(kScale)};
  std::vector<real> slopes;
  std::vector<int32_t> windows;
  for (int64_t h = 0; h < of.H; ++h) {
    slopes.push_back(real(0.5) / static_cast<real>(h + 1));
    windows.push_back(kWindows[h % 3]);
  }
  if (with.slopes) in.slopes = Tensor(x[0].context(), Shape{of.H}, slopes);
  if (with.windows) in.windows = IntTensor(x[0].context(), Shape{of.H}, windows);
  return in;
}

void add_attention_case(OpCases& cases, const std::string& name, Attention op, const Sizes& of,
                        const Options& with) {
  const Shape keys{of.B, of.S, of.H, of.d};
  cases.push_back(
      {.op = name,
       .variation = std::string(with.slopes ? "slopes " : "") + (with.windows ? "windows " : ""),
       .inputs = {{{of.B, of.T, of.H, of.d}, -1, 1, true},
                  {keys, -1, 1, true},
                  {keys, -1, 1, true}},
       .apply = [=](const Vars& x) { return Vars{op(inputs_of(x, of, with))}; },
       .reference =
           [=](const Arrays& x) {
             reference::Attention in{.q = &x[0], .k = &x[1], .v = &x[2], .scale = kScale};
             for (int64_t h = 0; h < of.H; ++h) {
               if (with.slopes) in.slopes.push_back(0.5 / static_cast<double>(h + 1));
               if (with.windows) in.windows.push_back(kWindows[h % 3]);
             }
             return Arrays{reference::attention(in)};
           },
       // Of one key alone the gradients of q and k are 0.
       .gradient_floor = 1e-3});
}

void add_rotary_case(OpCases& cases, const std::string& name, Rotation op, const Shape& shape,
                     int64_t r, int64_t first) {
  cases.push_back(
      {.op = name,
       .variation = std::to_string(r) + " channels from " + std::to_string(first),
       .inputs = {{shape, -1, 1, true}},
       .apply = [=](const Vars& x) { return Vars{op(x[0], r, kBase, first)}; },
       .reference =
           [=](const Arrays& x) { return Arrays{reference::rotary(x[0], r, kBase, first)}; }});
}

// Valid inputs but for what `spoil` does to them.
template <class Spoil>
void add_error(ErrorCases& errors, const std::string& fragment, Spoil spoil) {
  errors.push_back(refuses<ShapeError>("attention", fragment, [=](const Context& c) {
    AttentionInputs in{
        .q = tensor(c, {2, 5, 3, 4}), .k = tensor(c, {2, 7, 3, 4}), .v = tensor(c, {2, 7, 3, 4})};
    spoil(in, c);
    attention(in);
  }));
}

void add_errors(ErrorCases& errors) {
  using In = AttentionInputs;
  add_error(errors, "q must be (B, T, H, d) with heads and channels, got (2, 5, 12)",
            [](In& in, const Context& c) {
              in.q = tensor(c, {2, 5, 12});
            });
  add_error(errors, "with heads and channels, got (2, 5, 0, 4)", [](In& in, const Context& c) {
    in.q = tensor(c, {2, 5, 0, 4});
  });
  for (const Shape& shape : {Shape{2, 4, 3, 4}, {2, 7, 4, 3}, {3, 7, 3, 4}, {2, 7, 12}})
    add_error(errors, "S >= T: k and q, got " + describe(shape) + " and (2, 5, 3, 4)",
              [shape](In& in, const Context& c) { in.k = tensor(c, shape); });
  add_error(errors, "k and v must have the same shape, got (2, 7, 3, 4) and (2, 7, 3, 5)",
            [](In& in, const Context& c) {
              in.v = tensor(c, {2, 7, 3, 5});
            });
  add_error(errors, "slopes must be (H), got (4)",
            [](In& in, const Context& c) { in.slopes = tensor(c, {4}); });
  add_error(errors, "windows must be (H), got (1)",
            [](In& in, const Context& c) { in.windows = IntTensor(c, Shape{1}); });
  errors.push_back(
      refuses<ShapeError>("rotary", "(B, T, H, d), got (2, 5, 12)", [](const Context& c) {
        rotary(tensor(c, {2, 5, 12}), 2, 10);
      }));
  for (const int64_t r : {-2, 3, 6})
    errors.push_back(refuses<ValueError>(
        "rotary", "an even number of those there are, got " + std::to_string(r) + " and 4",
        [r](const Context& c) {
          rotary(tensor(c, {2, 5, 3, 4}), r, 10);
        }));
  errors.push_back(refuses<ValueError>("rotary", "the base must be positive", [](const Context& c) {
    rotary(tensor(c, {2, 5, 3, 4}), 2, 0);
  }));
  errors.push_back(refuses<ValueError>("rotary", "first position not negative, got 10 and -1",
                                       [](const Context& c) {
                                         rotary(tensor(c, {2, 5, 3, 4}), 2, 10, -1);
                                       }));
}

}  // namespace

void add_attention(OpCases& cases, ErrorCases& errors) {
  // Few queries, one block of them, several; with and without keys of the past.
  const std::vector<Sizes> sizes{{1, 1, 1, 1, 1},     {3, 1, 9, 2, 5},    {2, 3, 3, 3, 17},
                                 {3, 5, 7, 3, 4},     {2, 17, 17, 3, 33}, {2, 0, 3, 2, 2},
                                 {0, 3, 3, 2, 2},     {2, 0, 0, 1, 3},    {1, 66, 66, 3, 3},
                                 {1, 130, 130, 1, 2}, {1, 2, 150, 3, 2},  {1, 131, 195, 3, 2}};
  for (const Sizes& of : sizes)
    for (const Options& with : {Options{false, false}, {true, false}, {false, true}, {true, true}})
      for (const auto& [name, op] : {std::pair{"attention", Attention{attention}},
                                     {"attention_by_parts", attention_by_parts}})
        add_attention_case(cases, name, op, of, with);
  for (const auto& [name, op] :
       {std::pair{"attention", Attention{attention}}, {"attention_by_parts", attention_by_parts}})
    for (const Sizes& of : {Sizes{2, 66, 66, 2, 40},
                            {1, 131, 195, 3, 64},  // a GPU's whole heads, over two blocks
                            {1, 9, 70, 3, 66},     // its wider heads
                            {1, 3, 700, 3, 64},    // its few queries, of several shares
                            {1, 5, 6, 2, 130}})    // no kernel there
      add_attention_case(cases, name, op, of, {true, of.H == 3});
  for (const auto& [name, op] :
       {std::pair{"rotary", Rotation{rotary}}, {"rotary_by_parts", rotary_by_parts}}) {
    for (const int64_t r : {0, 2, 4}) add_rotary_case(cases, name, op, {3, 5, 2, 5}, r, 0);
    add_rotary_case(cases, name, op, {2, 9, 3, 66}, 66, 7);
    add_rotary_case(cases, name, op, {2, 0, 3, 4}, 4, 7);
    add_rotary_case(cases, name, op, {1, 40, 4, 64}, 34, 1);
  }
  add_errors(errors);
}

}  // namespace fprnn::tests
