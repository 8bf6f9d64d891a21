// Matrix products and linear maps.
#include <fprnn/core/vector.h>

#include "op_table.h"

namespace fprnn::tests {

namespace {

struct Sizes {
  int64_t M, N, K;
};

// Below, at and above registers and blocks; each size 0 once; large ones that several threads
// share.
const std::vector<Sizes> kSizes{{1, 1, 1},     {2, 3, 5},      {3, 17, 2},     {31, 1, 33},
                                {5, 33, 1},    {1, 65, 31},    {17, 16, 65},   {6, 48, 127},
                                {33, 63, 32},  {0, 3, 2},      {3, 0, 2},      {3, 2, 0},
                                {65, 127, 63}, {130, 33, 257}, {129, 97, 140}, {3, 1030, 5}};

void add_matmuls(OpCases& cases) {
  for (const auto& [M, N, K] : kSizes)
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        cases.push_back(
            {.op = "matmul",
             .variation = std::string(ta ? "A^T " : "A ") + (tb ? "B^T" : "B"),
             .inputs = {{ta ? Shape{K, M} : Shape{M, K}}, {tb ? Shape{N, K} : Shape{K, N}}},
             .apply =
                 [=](const Vars& x) {
                   return Vars{matmul(x[0], x[1], {ta, tb})};
                 },
             .reference =
                 [=](const Arrays& x) { return Arrays{reference::matmul(x[0], x[1], ta, tb)}; }});
  for (const auto& [leading, K, N] : {std::tuple{Shape{3, 2}, 5, 3},
                                      {Shape{3, 1}, 33, 17},
                                      {Shape{3, 0}, 3, 2},
                                      {Shape{3, 41}, 128, 130},
                                      {Shape{3, 2, 2}, 3, 65}})
    for (const bool tb : {false, true})
      cases.push_back(
          {.op = "matmul",
           .variation = tb ? "batch B^T" : "batch B",
           .inputs = {{leading.appended(K), -1, 1, true}, {tb ? Shape{N, K} : Shape{K, N}}},
           .apply =
               [=](const Vars& x) {
                 return Vars{matmul(x[0], x[1], {false, tb})};
               },
           .reference =
               [=](const Arrays& x) { return Arrays{reference::matmul(x[0], x[1], false, tb)}; }});
}

void add_batched_matmuls(OpCases& cases) {
  const std::vector<std::pair<Shape, Sizes>> sizes{
      {{}, {3, 5, 2}},     {{3}, {1, 1, 1}},    {{3}, {5, 3, 17}},
      {{3, 2}, {2, 3, 5}}, {{0}, {2, 3, 5}},    {{3}, {0, 2, 3}},
      {{3}, {2, 3, 0}},    {{3}, {17, 33, 31}}, {{3, 40}, {16, 17, 16}}};
  for (const auto& [leading, size] : sizes) {
    const auto [M, N, K] = size;
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        cases.push_back({.op = "batched_matmul",
                         .variation = std::string(ta ? "A^T " : "A ") + (tb ? "B^T" : "B"),
                         .inputs = {{leading.appended(ta ? K : M).appended(ta ? M : K), -1, 1,
                                     leading.rank() > 0},
                                    {leading.appended(tb ? N : K).appended(tb ? K : N), -1, 1,
                                     leading.rank() > 0}},
                         .apply =
                             [=](const Vars& x) {
                               return Vars{batched_matmul(x[0], x[1], {ta, tb})};
                             },
                         .reference =
                             [=](const Arrays& x) {
                               return Arrays{reference::batched_matmul(x[0], x[1], ta, tb)};
                             }});
  }
}

void add_outers(OpCases& cases) {
  const std::vector<std::tuple<Shape, int64_t, int64_t>> sizes{
      {{}, 3, 5},  {{3}, 1, 1}, {{3}, 5, 17},     {{3, 2}, 33, 3},  {{3, 0}, 3, 2},
      {{3}, 0, 2}, {{3}, 2, 0}, {{3, 2}, 31, 16}, {{3, 40}, 65, 33}};
  for (const auto& [leading, M, N] : sizes)
    cases.push_back(
        {.op = "add_outer",
         .inputs = {{leading.appended(M).appended(N), -1, 1, leading.rank() > 0},
                    {leading.appended(M), -1, 1, leading.rank() > 0},
                    {leading.appended(N), -1, 1, leading.rank() > 0}},
         .apply = [](const Vars& x) { return Vars{add_outer(x[0], x[1], x[2])}; },
         .reference =
             [](const Arrays& x) { return Arrays{reference::add_outer(x[0], x[1], x[2])}; }});
}

struct LinearSizes {
  Shape leading;
  int64_t K, N;
};
const std::vector<LinearSizes> kLinearSizes{
    {{}, 3, 2},      {{1}, 1, 1},        {{3, 2}, 5, 3}, {{3, 1}, 17, 33},  {{3, 0}, 3, 2},
    {{3, 33}, 5, 1}, {{3, 2, 2}, 3, 17}, {{3, 2}, 0, 3}, {{3, 65}, 63, 65}, {{3, 127}, 130, 96}};

void add_linears(OpCases& cases) {
  for (const auto& [leading, K, N] : kLinearSizes) {
    const Input x{leading.appended(K), -1, 1, leading.rank() > 1};
    cases.push_back(
        {.op = "linear",
         .inputs = {x, {{N, K}}},
         .apply = [](const Vars& v) { return Vars{linear(v[0], v[1])}; },
         .reference =
             [](const Arrays& v) { return Arrays{reference::linear(v[0], v[1], nullptr)}; }});
    cases.push_back(
        {.op = "linear",
         .variation = "of a saved result",
         .inputs = {x, {{N, K}}},
         .apply =
             [](const Vars& v) { return Vars{linear(v[0], v[1], {}, linear(v[0], v[1]).value())}; },
         .reference =
             [](const Arrays& v) { return Arrays{reference::linear(v[0], v[1], nullptr)}; }});
    cases.push_back(
        {.op = "linear",
         .variation = "with bias",
         .inputs = {x, {{N, K}}, {{N}}},
         .apply = [](const Vars& v) { return Vars{linear(v[0], v[1], v[2])}; },
         .reference =
             [](const Arrays& v) { return Arrays{reference::linear(v[0], v[1], &v[2])}; }});
  }
}

void add_block_linears(OpCases& cases, ErrorCases& errors) {
  for (const auto& [x, weight] : {std::pair{Shape{3, 5, 8}, Shape{2, 4, 4}},
                                  {Shape{2, 70, 6}, Shape{3, 1, 2}},
                                  {Shape{2, 700, 6}, Shape{3, 2, 2}},
                                  {Shape{1, 4, 34}, Shape{2, 19, 17}},
                                  {Shape{2, 35, 160}, Shape{10, 15, 16}},
                                  {Shape{1, 70, 24}, Shape{3, 8, 8}},
                                  {Shape{3, 0, 4}, Shape{1, 2, 4}}})
    cases.push_back(
        {.op = "block_linear",
         .inputs = {{x, -1, 1, true}, {weight}},
         .apply = [](const Vars& v) { return Vars{block_linear(v[0], v[1])}; },
         .reference = [](const Arrays& v) { return Arrays{reference::block_linear(v[0], v[1])}; }});
  errors.push_back(
      refuses<ShapeError>("block_linear", "weight must be (N, o, i)", [](const Context& c) {
        block_linear(tensor(c, {2, 8}), tensor(c, {8, 8}));
      }));
  errors.push_back(refuses<ShapeError>(
      "block_linear", "(N, o, i): x and weight, got (2, 6) and (2, 4, 4)", [](const Context& c) {
        block_linear(tensor(c, {2, 6}), tensor(c, {2, 4, 4}));
      }));
}

void add_linear_parts(OpCases& cases) {
  for (const auto& [leading, K, rows] : {std::tuple{Shape{}, 3, std::vector<int64_t>{2}},
                                         {Shape{3, 2}, 5, {1, 0, 3}},
                                         {Shape{3, 0}, 3, {2, 1}},
                                         {Shape{3, 33}, 1, {4, 5}},
                                         {Shape{3, 2}, 0, {2, 1}},
                                         {Shape{3, 67}, 63, {65, 1, 30}}}) {
    int64_t N = 0;
    for (const int64_t count : rows) N += count;
    cases.push_back(
        {.op = "linear_parts",
         .variation = describe(static_cast<int64_t>(rows.size())) + " parts",
         .inputs = {{leading.appended(K), -1, 1, leading.rank() > 1}, {{N, K}}},
         .apply = [rows = rows](const Vars& v) { return linear_parts(v[0], v[1], rows); },
         .reference =
             [rows = rows](const Arrays& v) {
               const Array all = reference::linear(v[0], v[1], nullptr);
               Arrays parts;
               int64_t begin = 0;
               for (const int64_t count : rows) {
                 parts.push_back(reference::slice(all, -1, begin, begin + count));
                 begin += count;
               }
               return parts;
             }});
  }
}

// Directions of positive numbers keep the length of a row away from 0.
void add_weight_norms(OpCases& cases) {
  for (const auto& [leading, K, N] : kLinearSizes) {
    if (K == 0) continue;
    const Input x{leading.appended(K), -1, 1, leading.rank() > 1};
    const Input magnitude{{N, 1}, -2, 2}, direction{{N, K}, 0.5, 1.5};
    const double floor = K == 1 ? 1 : 0;  // one number has no direction: its gradient is 0
    cases.push_back(
        {.op = "weight_norm",
         .inputs = {magnitude, direction},
         .apply = [](const Vars& v) { return Vars{weight_norm(v[0], v[1])}; },
         .reference = [](const Arrays& v) { return Arrays{reference::weight_norm(v[0], v[1])}; },
         .gradient_floor = floor});
    cases.push_back(
        {.op = "weight_norm_linear",
         .inputs = {x, magnitude, direction},
         .apply = [](const Vars& v) { return Vars{weight_norm_linear(v[0], v[1], v[2])}; },
         .reference =
             [](const Arrays& v) {
               return Arrays{reference::linear(v[0], reference::weight_norm(v[1], v[2]), nullptr)};
             },
         .gradient_floor = floor});
    cases.push_back(
        {.op = "weight_norm_linear",
         .variation = "with bias",
         .inputs = {x, magnitude, direction, {{N}}},
         .apply = [](const Vars& v) { return Vars{weight_norm_linear(v[0], v[1], v[2], v[3])}; },
         .reference =
             [](const Arrays& v) {
               return Arrays{reference::linear(v[0], reference::weight_norm(v[1], v[2]), &v[3])};
             },
         .gradient_floor = floor});
  }
}

// Two outputs of a normalised source, a part of a plain one in both, and a column: rows alone, side by side
// and twice, columns that are left out, and zeros.
void add_assembled_weights(OpCases& cases) {
  for (const auto& [N, K] :
       {std::pair{1, 2}, {3, 5}, {6, 8}, {33, 66}, {70, 136}, {0, 5}, {4, 0}}) {
    const int64_t half = K / 2, rest = N - N / 2;
    const std::vector<WeightLayout> outputs{
        {half, {{0, N}, {-1, 3}, {1, rest, N / 2}, {1, N, 0, std::min<int64_t>(1, K - half)}}},
        {half, {{0, N, 0, half}, {1, rest, N / 2}}},
        {1, {{-1, 2}, {2, N}, {-1, 0}}},
        {K, {{0, N / 2, rest}}}};
    cases.push_back({.op = "assemble_weights",
                     .inputs = {{{N, 1}, -2, 2}, {{N, K}, 0.5, 1.5}, {{N, K}}, {{N, 1}}},
                     .apply =
                         [=](const Vars& v) {
                           return assemble_weights({{v[0], v[1]}, {{}, v[2]}, {{}, v[3]}}, outputs);
                         },
                     .reference =
                         [=](const Arrays& v) {
                           const Array sources[] = {reference::weight_norm(v[0], v[1]), v[2], v[3]};
                           Arrays made;
                           for (const auto& [columns, blocks] : outputs) {
                             Arrays parts;
                             for (const auto& [source, rows, row, column] : blocks)
                               parts.push_back(source < 0 ? Array(Shape{rows, columns})
                                                          : reference::slice(
                                                                reference::slice(sources[source], 0,
                                                                                 row, row + rows),
                                                                1, column, column + columns));
                             made.push_back(reference::concat(parts, 0));
                           }
                           return made;
                         }});
  }
}

void add_matmul_errors(ErrorCases& errors) {
  const auto refuse = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ShapeError>(op, fragment, call));
  };
  refuse("matmul", "inner sizes must be equal, got (2, 3), (4, 5), false and false",
         [](const Context& at) {
           matmul(tensor(at, {2, 3}), tensor(at, {4, 5}));
         });
  refuse("matmul", "got (3, 2), (5, 3), true and false", [](const Context& at) {
    matmul(tensor(at, {3, 2}), tensor(at, {5, 3}), {.transpose_a = true});
  });
  refuse("matmul", "got (3) and (3, 2)", [](const Context& at) {
    matmul(tensor(at, {3}), tensor(at, {3, 2}));
  });
  refuse("matmul", "got (2, 3) and (2, 3, 4)", [](const Context& at) {
    matmul(tensor(at, {2, 3}), tensor(at, {2, 3, 4}));
  });
  refuse("matmul", "must be (K, M), got (2, 3, 4)", [](const Context& at) {
    matmul(tensor(at, {2, 3, 4}), tensor(at, {3, 2}), {.transpose_a = true});
  });
  refuse("batched_matmul", "leading axes, got (2, 3, 4) and (3, 4, 5)", [](const Context& at) {
    batched_matmul(tensor(at, {2, 3, 4}), tensor(at, {3, 4, 5}));
  });
  refuse("batched_matmul", "got (2, 3, 4) and (4, 5)", [](const Context& at) {
    batched_matmul(tensor(at, {2, 3, 4}), tensor(at, {4, 5}));
  });
  refuse("batched_matmul", "got (2, 3, 4), (2, 5, 4), false and false", [](const Context& at) {
    batched_matmul(tensor(at, {2, 3, 4}), tensor(at, {2, 5, 4}));
  });
  refuse("add_outer", "v (..., N), got (2, 3, 4), (2, 4) and (2, 3)", [](const Context& at) {
    add_outer(tensor(at, {2, 3, 4}), tensor(at, {2, 4}), tensor(at, {2, 3}));
  });
  refuse("add_outer", "got (3), () and (3)",
         [](const Context& at) { add_outer(tensor(at, {3}), tensor(at, {}), tensor(at, {3})); });
}

void add_linear_errors(ErrorCases& errors) {
  const auto refuse = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ShapeError>(op, fragment, call));
  };
  refuse("linear", "got (2, 3) and (5, 4)", [](const Context& at) {
    linear(tensor(at, {2, 3}), tensor(at, {5, 4}));
  });
  refuse("linear", "got () and (5, 4)", [](const Context& at) {
    linear(tensor(at, {}), tensor(at, {5, 4}));
  });
  refuse("linear", "bias must be (N), got (4) and (5, 3)", [](const Context& at) {
    linear(tensor(at, {2, 3}), tensor(at, {5, 3}), tensor(at, {4}));
  });
  refuse("linear", "(..., N), got (2, 4), (2, 3) and (5, 3)", [](const Context& at) {
    linear(tensor(at, {2, 3}), tensor(at, {5, 3}), {}, tensor(at, {2, 4}));
  });
  refuse("linear_parts", "got (2, 3) and (5, 4)", [](const Context& at) {
    linear_parts(tensor(at, {2, 3}), tensor(at, {5, 4}), {5});
  });
  for (const std::vector<int64_t>& rows : {std::vector<int64_t>{2, 2}, {6}, {3, -1, 3}, {}})
    errors.push_back(
        refuses<ValueError>("linear_parts", "rows must add up to N", [rows](const Context& at) {
          linear_parts(tensor(at, {2, 3}), tensor(at, {5, 3}), rows);
        }));
  refuse("weight_norm", "got (5, 3) and (5)", [](const Context& at) {
    weight_norm(tensor(at, {5}), tensor(at, {5, 3}));
  });
  refuse("weight_norm", "got (5) and (5, 1)", [](const Context& at) {
    weight_norm(tensor(at, {5, 1}), tensor(at, {5}));
  });
  const auto assemble = [](const Shape& magnitude, const std::vector<WeightLayout>& outputs) {
    return [=](const Context& at) {
      assemble_weights({{tensor(at, magnitude), tensor(at, {5, 3})}}, outputs);
    };
  };
  refuse("assemble_weights", "got (5, 3) and (5)", assemble({5}, {{3, {{0, 5}}}}));
  for (const WeightBlock& block :
       {WeightBlock{1, 5}, {0, 5, 1}, {0, 5, -1}, {0, 5, 0, 1}, {0, -1}, {-1, -1}})
    errors.push_back(
        refuses<ValueError>("assemble_weights", "a block must", assemble({5, 1}, {{3, {block}}})));
  errors.push_back(refuses<ValueError>("assemble_weights", "got 1 and 0", assemble({5, 1}, {})));
  errors.push_back(refuses<ShapeError>(
      "weight_norm_linear", "got (2, 4) and (5, 3)",
      [](const Context& at) {
        weight_norm_linear(full(at, {2, 4}, 1), full(at, {5, 1}, 1), full(at, {5, 3}, 1));
      },
      "linear"));
}

}  // namespace

void add_products(OpCases& cases, ErrorCases& errors) {
  add_matmuls(cases);
  add_batched_matmuls(cases);
  add_outers(cases);
  add_linears(cases);
  add_linear_parts(cases);
  add_block_linears(cases, errors);
  add_weight_norms(cases);
  add_assembled_weights(cases);
  add_matmul_errors(errors);
  add_linear_errors(errors);
}

}  // namespace fprnn::tests
