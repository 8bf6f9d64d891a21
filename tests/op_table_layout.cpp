// Sums, means, broadcasting and what moves values without changing them.
#include "op_table.h"

namespace fprnn::tests {

namespace {

// More positive numbers than negative: a sum that cancels would have no digits left to compare.
void add_sums(OpCases& cases) {
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{33}, Shape{3, 5}, Shape{0, 3},
                             Shape{1025}, Shape{3, 41, 200}, Shape{40000}}) {
    cases.push_back({.op = "sum",
                     .inputs = {{shape, -0.5, 1}},
                     .apply = [](const Vars& x) { return Vars{sum(x[0])}; },
                     .reference = [](const Arrays& x) { return Arrays{reference::sum(x[0])}; }});
    if (shape.elements() == 0) continue;
    cases.push_back({.op = "mean",
                     .inputs = {{shape, -0.5, 1}},
                     .apply = [](const Vars& x) { return Vars{mean(x[0])}; },
                     .reference = [](const Arrays& x) { return Arrays{reference::mean(x[0])}; }});
  }
}

void add_axis_sums(OpCases& cases) {
  for (const Shape& shape :
       {Shape{33}, Shape{3, 1, 5}, Shape{3, 17, 33}, Shape{3, 2, 3, 5}, Shape{2, 0, 3},
        Shape{3, 1025, 9}, Shape{3, 700, 1}, Shape{2, 1, 1500}})
    for (int axis = -1; axis < shape.rank(); ++axis) {
      const Input input{shape, -1, 1, axis > 0 && shape[0] == 3};
      const std::string along = "along " + describe(axis);
      cases.push_back(
          {.op = "sum",
           .variation = along,
           .inputs = {input},
           .apply = [=](const Vars& x) { return Vars{sum(x[0], axis)}; },
           .reference = [=](const Arrays& x) { return Arrays{reference::sum(x[0], axis)}; }});
      if (shape[axis] == 0) continue;
      cases.push_back(
          {.op = "mean",
           .variation = along,
           .inputs = {input},
           .apply = [=](const Vars& x) { return Vars{mean(x[0], axis)}; },
           .reference = [=](const Arrays& x) { return Arrays{reference::mean(x[0], axis)}; }});
    }
}

// broadcast_to from the smaller to the larger shape, sum_to back.
void add_broadcasts(OpCases& cases) {
  const std::vector<std::pair<Shape, Shape>> pairs{{{}, {}},
                                                   {{}, {5}},
                                                   {{1}, {5}},
                                                   {{3}, {2, 3}},
                                                   {{3, 1}, {3, 17}},
                                                   {{1, 5}, {3, 5}},
                                                   {{2, 1, 3}, {2, 4, 3}},
                                                   {{1, 3, 1}, {2, 2, 3, 5}},
                                                   {{1, 1}, {3, 33}},
                                                   {{33}, {1, 33}},
                                                   {{1}, {4, 1}},
                                                   {{3}, {0, 3}},
                                                   {{0}, {5, 0}},
                                                   {{1, 3}, {0, 3}},
                                                   {{1, 9}, {2000, 9}},
                                                   {{3, 41, 1}, {3, 41, 200}},
                                                   {{200}, {3, 41, 200}}};
  for (const auto& [from, to] : pairs) {
    cases.push_back(
        {.op = "broadcast_to",
         .variation = "to " + describe(to),
         .inputs = {{from}},
         .apply = [to = to](const Vars& x) { return Vars{broadcast_to(x[0], to)}; },
         .reference =
             [to = to](const Arrays& x) { return Arrays{reference::broadcast_to(x[0], to)}; }});
    cases.push_back(
        {.op = "sum_to",
         .variation = "to " + describe(from),
         .inputs = {{to}},
         .apply = [from = from](const Vars& x) { return Vars{sum_to(x[0], from)}; },
         .reference =
             [from = from](const Arrays& x) { return Arrays{reference::sum_to(x[0], from)}; }});
  }
}

void add_reshapes(OpCases& cases) {
  for (const auto& [from, to] : {std::pair{Shape{2, 3}, Shape{3, 2}},
                                 {Shape{}, Shape{1, 1}},
                                 {Shape{33}, Shape{3, 11}},
                                 {Shape{0, 3}, Shape{5, 0}},
                                 {Shape{3, 41, 200}, Shape{24600}}})
    cases.push_back(
        {.op = "reshape",
         .variation = "to " + describe(to),
         .inputs = {{from}},
         .apply = [to = to](const Vars& x) { return Vars{reshape(x[0], to)}; },
         .reference = [to = to](const Arrays& x) { return Arrays{reference::reshape(x[0], to)}; }});
}

void add_concats(OpCases& cases) {
  const std::vector<std::pair<int, std::vector<Shape>>> lists{
      {0, {{3}}},
      {0, {{1}, {2}, {5}}},
      {-1, {{3, 2}, {3, 17}}},
      {0, {{2, 3}, {0, 3}, {1, 3}}},
      {1, {{3, 31, 5}, {3, 33, 5}, {3, 1, 5}}},
      {2, {{3, 41, 120}, {3, 41, 80}, {3, 41, 1}}},
      {1, {{2, 0}, {2, 0}}}};
  for (const auto& [axis, shapes] : lists) {
    std::vector<Input> inputs;
    for (const Shape& shape : shapes) inputs.push_back({shape, -1, 1, axis > 0 && shape[0] == 3});
    cases.push_back(
        {.op = "concat",
         .variation = "along " + describe(axis),
         .inputs = inputs,
         .apply = [axis = axis](const Vars& x) { return Vars{concat(x, axis)}; },
         .reference = [axis =
                           axis](const Arrays& x) { return Arrays{reference::concat(x, axis)}; }});
  }
}

void add_splits(OpCases& cases) {
  struct Parts {
    Shape shape;
    int axis;
    std::vector<int64_t> sizes;
  };
  for (const Parts& parts : {Parts{{5}, 0, {5}},
                             {{5}, -1, {2, 0, 3}},
                             {{3, 7}, 1, {1, 6}},
                             {{7, 3}, 0, {4, 3}},
                             {{0, 3}, 1, {1, 2}},
                             {{3, 41, 200}, 2, {1, 190, 9}}})
    cases.push_back({.op = "split",
                     .variation = "along " + describe(parts.axis),
                     .inputs = {{parts.shape, -1, 1, parts.axis > 0 && parts.shape[0] == 3}},
                     .apply = [=](const Vars& x) { return split(x[0], parts.axis, parts.sizes); },
                     .reference =
                         [=](const Arrays& x) {
                           Arrays all;
                           int64_t begin = 0;
                           for (const int64_t size : parts.sizes) {
                             all.push_back(reference::slice(x[0], parts.axis, begin, begin + size));
                             begin += size;
                           }
                           return all;
                         }});
}

void add_slices(OpCases& cases) {
  struct Part {
    Shape shape;
    int axis;
    int64_t begin, end;
  };
  for (const Part& part : {Part{{5}, 0, 0, 5},
                           {{5}, 0, 2, 2},
                           {{5}, -1, 4, 5},
                           {{3, 7}, 1, 1, 6},
                           {{7, 3}, 0, 2, 5},
                           {{3, 33, 5}, 1, 31, 33},
                           {{0, 3}, 1, 1, 2},
                           {{3, 41, 200}, 2, 1, 190},
                           {{3, 2000, 17}, 1, 7, 1999}})
    cases.push_back(
        {.op = "slice",
         .variation =
             describe(part.begin) + " to " + describe(part.end) + " of axis " + describe(part.axis),
         .inputs = {{part.shape, -1, 1, part.axis > 0 && part.shape[0] == 3}},
         .apply = [=](const Vars& x) { return Vars{slice(x[0], part.axis, part.begin, part.end)}; },
         .reference =
             [=](const Arrays& x) {
               return Arrays{reference::slice(x[0], part.axis, part.begin, part.end)};
             }});
}

void add_shifts(OpCases& cases) {
  for (const Shape& shape :
       {Shape{1, 1, 1}, Shape{3, 2, 3}, Shape{1, 31, 5}, Shape{3, 33, 17}, Shape{2, 0, 3},
        Shape{0, 2, 3}, Shape{3, 1025, 5}, Shape{3, 127, 65}}) {
    cases.push_back(
        {.op = "shift",
         .inputs = {{shape, -1, 1, true}},
         .apply = [](const Vars& x) { return Vars{shift(x[0])}; },
         .reference = [](const Arrays& x) { return Arrays{reference::shift(x[0], nullptr)}; }});
    cases.push_back(
        {.op = "shift",
         .variation = "with first",
         .inputs = {{shape, -1, 1, true}, {shape.without(1), -1, 1, true}},
         .apply = [](const Vars& x) { return Vars{shift(x[0], x[1])}; },
         .reference = [](const Arrays& x) { return Arrays{reference::shift(x[0], &x[1])}; }});
  }
}

// Tokens that repeat, so that gradients of a row meet.
std::vector<int32_t> tokens_for(const Shape& shape, int64_t V) {
  std::vector<int32_t> tokens(shape.elements());
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<int32_t>((i * i + 3 * i / 2) % V);
  return tokens;
}

void add_embeddings(OpCases& cases) {
  // used: how many of the table's rows. Few in a large table meet thousands of times.
  struct Case {
    Shape table, shape;
    int64_t used;
  };
  for (const auto& [table, shape, used] :
       {Case{{1, 1}, {}, 1}, Case{{5, 3}, {7}, 5}, Case{{9, 17}, {3, 5}, 9},
        Case{{4, 33}, {2, 2, 2}, 4}, Case{{5, 3}, {0}, 5}, Case{{300, 5}, {0}, 300},
        Case{{256, 3}, {7, 100}, 256}, Case{{300, 33}, {3, 5}, 300}, Case{{300, 8}, {2, 300}, 5},
        Case{{1100, 3}, {2, 300}, 1100}, Case{{60, 130}, {3, 200}, 60}}) {
    const auto tokens = tokens_for(shape, used);
    cases.push_back({.op = "embedding",
                     .variation = "of " + describe(shape),
                     .inputs = {{table}},
                     .apply =
                         [=, shape = shape](const Vars& x) {
                           return Vars{embedding(x[0], IntTensor(x[0].context(), shape, tokens))};
                         },
                     .reference =
                         [=, shape = shape](const Arrays& x) {
                           return Arrays{reference::embedding(x[0], tokens, shape)};
                         }});
  }
}

IntTensor tokens(const Context& at, std::vector<int32_t> values) {
  return IntTensor(at, Shape{static_cast<int64_t>(values.size())}, values);
}

void add_part_errors(ErrorCases& errors) {
  const auto shape_error = [&](const std::string& op, const std::string& fragment, auto call,
                               const std::string& tag = "") {
    errors.push_back(refuses<ShapeError>(op, fragment, call, tag));
  };
  const auto value_error = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ValueError>(op, fragment, call));
  };
  shape_error(
      "reshape", "got (2, 3) and (7)",
      [](const Context& at) {
        reshape(tensor(at, {2, 3}), {7});
      },
      "tensor");
  shape_error("concat", "there must be parts", [](const Context&) { concat({}, 0); });
  shape_error("concat", "got (2, 3) and (2, 4)", [](const Context& at) {
    concat({tensor(at, {2, 3}), tensor(at, {2, 4})}, 0);
  });
  shape_error("concat", "got (2) and (2, 1)", [](const Context& at) {
    concat({tensor(at, {2}), tensor(at, {2, 1})}, 0);
  });
  shape_error(
      "concat", "got 2 and (2, 3)",
      [](const Context& at) {
        concat({tensor(at, {2, 3})}, 2);
      },
      "shape");
  value_error("split", "got (3), 0 and 2",
              [](const Context& at) { split(tensor(at, {3}), 0, {2}); });
  value_error("split", "got (3), 0 and 0",
              [](const Context& at) { split(tensor(at, {3}), 0, {}); });
  value_error("split", "got (3), 0 and 2", [](const Context& at) {
    split(tensor(at, {3}), 0, {2, -1, 2});
  });
  value_error("slice", "got -1, 2 and (3)",
              [](const Context& at) { slice(tensor(at, {3}), 0, -1, 2); });
  value_error("slice", "got 0, 4 and (3)",
              [](const Context& at) { slice(tensor(at, {3}), 0, 0, 4); });
  value_error("slice", "got 2, 1 and (3)",
              [](const Context& at) { slice(tensor(at, {3}), 0, 2, 1); });
  shape_error(
      "slice", "got 1 and (3)", [](const Context& at) { slice(tensor(at, {3}), 1, 0, 1); },
      "shape");
}

void add_shift_and_embedding_errors(ErrorCases& errors) {
  const auto shape_error = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ShapeError>(op, fragment, call));
  };
  const auto value_error = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ValueError>(op, fragment, call));
  };
  shape_error("shift", "(B, T, D), got (2, 3)", [](const Context& at) {
    shift(tensor(at, {2, 3}));
  });
  shape_error("shift", "(B, D), got (2, 4) and (2, 5, 3)", [](const Context& at) {
    shift(tensor(at, {2, 5, 3}), tensor(at, {2, 4}));
  });
  shape_error("embedding", "(V, D), got (3)",
              [](const Context& at) { embedding(tensor(at, {3}), tokens(at, {0})); });
  value_error("embedding", "got 5, 1 and 5", [](const Context& at) {
    embedding(tensor(at, {5, 2}), tokens(at, {4, 5}));
  });
  value_error("embedding", "got -1, 0 and 5", [](const Context& at) {
    embedding(tensor(at, {5, 2}), tokens(at, {-1}));
  });
}

}  // namespace

void add_reduce(OpCases& cases, ErrorCases& errors) {
  add_sums(cases);
  add_axis_sums(cases);
  add_broadcasts(cases);
  const auto refuse = [&]<class E>(E*, const std::string& op, const std::string& fragment,
                                   auto call, const std::string& tag = "") {
    errors.push_back(refuses<E>(op, fragment, call, tag));
  };
  ShapeError* const shape = nullptr;
  ValueError* const value = nullptr;
  refuse(
      shape, "sum", "axis must exist in the shape, got 2 and (2, 3)",
      [](const Context& at) {
        sum(tensor(at, {2, 3}), 2);
      },
      "shape");
  refuse(
      shape, "sum", "got -3 and (2, 3)",
      [](const Context& at) {
        sum(tensor(at, {2, 3}), -3);
      },
      "shape");
  refuse(value, "mean", "there must be elements, got (0, 3)", [](const Context& at) {
    mean(tensor(at, {0, 3}));
  });
  refuse(value, "mean", "must not be empty, got (2, 0) and 1", [](const Context& at) {
    mean(tensor(at, {2, 0}), 1);
  });
  refuse(shape, "broadcast_to", "equal or 1, got (2, 3) and (2, 4)", [](const Context& at) {
    broadcast_to(tensor(at, {2, 3}), {2, 4});
  });
  refuse(shape, "broadcast_to", "as many axes, got (2, 3) and (3)", [](const Context& at) {
    broadcast_to(tensor(at, {2, 3}), {3});
  });
  refuse(shape, "sum_to", "got (2) and (3)",
         [](const Context& at) { sum_to(tensor(at, {3}), {2}); });
  refuse(shape, "sum_to", "not have more axes, got (3) and (1, 3)", [](const Context& at) {
    sum_to(tensor(at, {3}), {1, 3});
  });
}

void add_layout(OpCases& cases, ErrorCases& errors) {
  add_reshapes(cases);
  add_concats(cases);
  add_splits(cases);
  add_slices(cases);
  add_shifts(cases);
  add_embeddings(cases);
  add_part_errors(errors);
  add_shift_and_embedding_errors(errors);
}

}  // namespace fprnn::tests
