// The channel mixers and the loss.
#include <fprnn/core/vector.h>

#include <cmath>
#include <limits>

#include "op_table.h"

namespace fprnn::tests {

namespace {

using LowRankOp = Var (*)(const Var&, const Var&, const Var&, real);
using LowRankTruth = Array (*)(const Array&, const Array&, const Array&, double);

struct LowRankSizes {
  Shape leading;
  int64_t r, D;
};
const std::vector<LowRankSizes> kLowRankSizes{{{}, 1, 1},        {{2}, 1, 3},      {{3, 2}, 2, 5},
                                              {{3, 1}, 3, 17},   {{3, 31}, 1, 3},  {{3, 2}, 4, 33},
                                              {{1, 65}, 2, 5},   {{3, 0}, 2, 3},   {{3, 2}, 0, 3},
                                              {{3, 127}, 2, 65}, {{3, 1000}, 1, 7}};

// u is not normalised here, which the formulas do not need: lengths up to 1 keep Q v small.
void add_low_rank(OpCases& cases, const std::string& op, LowRankOp apply, LowRankTruth truth) {
  for (const auto& [leading, r, D] : kLowRankSizes) {
    const bool batched = leading.rank() == 2;
    const double range = 1 / std::sqrt(double(D));
    for (const double scale : {1.0, 2.0})
      cases.push_back(
          {.op = op,
           .variation = "scale " + describe(scale),
           .inputs = {{leading.appended(r).appended(D), -range, range, batched},
                      {leading.appended(r), 0.05, 0.95, batched},
                      {leading.appended(D), -1, 1, batched}},
           .apply = [=](const Vars& x) { return Vars{apply(x[0], x[1], x[2], real(scale))}; },
           .reference = [=](const Arrays& x) { return Arrays{truth(x[0], x[1], x[2], scale)}; }});
  }
}

struct KroneckerNormCase {
  std::string name;
  KroneckerNorm norm;
  reference::KroneckerNorm truth;
};
const KroneckerNormCase kNorms[] = {{"row", KroneckerNorm::row, {true, false}},
                                    {"spectral", KroneckerNorm::spectral, {false, true}},
                                    {"row_spectral", KroneckerNorm::row_spectral, {true, true}}};

// low .. high is the range of the triangles' elements; lengths below eps are divided by eps
// instead.
void add_factors(OpCases& cases, const Shape& leading, int64_t D, double low, double high,
                 double eps) {
  const auto [m1, m2] = kronecker_sizes(D);
  const bool batched = leading.rank() == 2;
  for (const auto& [name, norm, truth] : kNorms)
    cases.push_back(
        {.op = "kronecker_factors",
         .variation = name + " eps " + describe(eps),
         .inputs = {{leading.appended(kronecker_sizes(D).triangles()), low, high, batched},
                    {leading.appended(m1 + m2), 0.05, 0.95, batched}},
         .apply =
             [=, norm = norm](const Vars& x) {
               const auto [left, right] = kronecker_factors(x[0], x[1], D, norm, real(eps));
               return Vars{left, right};
             },
         .reference =
             [=, m1 = m1, m2 = m2, truth = truth](const Arrays& x) {
               const auto [left, right] =
                   reference::kronecker_factors(x[0], x[1], m1, m2, truth, real(eps));
               return Arrays{left, right};
             },
         .gradient_floor = D == 1 && eps < 1 ? 1. : 0});  // one number over its length
}

void add_kroneckers(OpCases& cases) {
  const std::vector<std::pair<Shape, int64_t>> sizes{
      {{}, 1},      {{2}, 3},  {{3, 2}, 4}, {{3, 1}, 12},   {{1, 3}, 15}, {{2}, 17},
      {{3, 2}, 30}, {{1}, 64}, {{3, 0}, 6}, {{3, 127}, 20}, {{3, 41}, 64}};
  for (const auto& [leading, D] : sizes) {
    const auto [m1, m2] = kronecker_sizes(D);
    const bool batched = leading.rank() == 2;
    add_factors(cases, leading, D, 0.2, 1.2, 1e-5);
    add_factors(cases, leading, D, -0.1, 0.1, 4);
    for (const double scale : {1.0, 2.0})
      cases.push_back({.op = "kronecker",
                       .variation = "scale " + describe(scale),
                       .inputs = {{leading.appended(m1).appended(m1), -1, 1, batched},
                                  {leading.appended(m2).appended(m2), -1, 1, batched},
                                  {leading.appended(D), -1, 1, batched}},
                       .apply =
                           [=](const Vars& x) {
                             return Vars{kronecker({x[0], x[1]}, x[2], real(scale))};
                           },
                       .reference =
                           [=](const Arrays& x) {
                             return Arrays{reference::kronecker(x[0], x[1], x[2], scale)};
                           }});
  }
}

struct Loss {
  std::vector<int32_t> targets;
  std::vector<double> mask;
};

// Weights 1, 0, 1/2 in turn; where the weight is 0 the target means nothing.
Loss loss_for(int64_t rows, int64_t V, bool masked) {
  Loss loss;
  for (int64_t i = 0; i < rows; ++i) {
    loss.mask.push_back(!masked || i % 3 == 0 ? 1 : i % 3 == 1 ? 0 : 0.5);
    loss.targets.push_back(loss.mask[i] == 0 ? -1 : static_cast<int32_t>(i * i % V));
  }
  return loss;
}

void add_losses(OpCases& cases, const Shape& leading, int64_t V, bool masked, double low,
                double high, double smoothing = 0) {
  const Loss loss = loss_for(leading.elements(), V, masked);
  cases.push_back(
      {.op = "masked_cross_entropy",
       .variation = smoothing > 0 ? "smoothed"
                    : masked      ? "masked"
                                  : "all",
       .inputs = {{leading.appended(V), low, high}},
       .apply =
           [=](const Vars& x) {
             const Context& context = x[0].context();
             const std::vector<real> mask(loss.mask.begin(), loss.mask.end());
             return Vars{masked_cross_entropy(x[0], IntTensor(context, leading, loss.targets),
                                              Tensor(context, leading, mask), smoothing)};
           },
       .reference =
           [=](const Arrays& x) {
             return Arrays{
                 reference::masked_cross_entropy(x[0], loss.targets, loss.mask, smoothing)};
           },
       // With one class the loss and its gradient are 0.
       .gradient_floor = V == 1 ? 1. : 0});
}

void add_low_rank_errors(ErrorCases& errors) {
  const auto shape_error = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ShapeError>(op, fragment, call));
  };
  const auto value_error = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ValueError>(op, fragment, call));
  };
  for (const auto& [op, apply] :
       {std::pair<std::string, LowRankOp>{"householder", householder}, {"dplr", dplr}}) {
    const auto on = [apply = apply](const Shape& u, const Shape& alpha, const Shape& v,
                                    real scale) {
      return [=](const Context& c) { apply(tensor(c, u), tensor(c, alpha), tensor(c, v), scale); };
    };
    shape_error(op, "v (..., D), got (2, 4, 3) and (2, 5)", on({2, 4, 3}, {2, 4}, {2, 5}, 1));
    shape_error(op, "got (3) and (3)", on({3}, {}, {3}, 1));
    shape_error(op, "alpha (..., r), got (2, 4, 3) and (2, 3)", on({2, 4, 3}, {2, 3}, {2, 3}, 1));
    value_error(op, "scale must be finite, got inf",
                on({2, 4, 3}, {2, 4}, {2, 3}, std::numeric_limits<real>::infinity()));
    value_error(op, "got nan",
                on({2, 4, 3}, {2, 4}, {2, 3}, std::numeric_limits<real>::quiet_NaN()));
  }
}

void add_kronecker_errors(ErrorCases& errors) {
  const auto shape_error = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ShapeError>(op, fragment, call));
  };
  const auto value_error = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ValueError>(op, fragment, call));
  };
  const auto factors = [](const Shape& k, const Shape& gates, int64_t D, real eps) {
    return [=](const Context& c) {
      kronecker_factors(tensor(c, k), tensor(c, gates), D, KroneckerNorm::row, eps);
    };
  };
  shape_error("kronecker_factors", "got (2, 8) and 9", factors({2, 8}, {2, 5}, 6, 1));
  shape_error("kronecker_factors", "got () and 9", factors({}, {5}, 6, 1));
  shape_error("kronecker_factors", "got (2, 6), (2, 9), 2 and 3", factors({2, 9}, {2, 6}, 6, 1));
  value_error("kronecker_factors", "eps must be positive, got 0", factors({2, 9}, {2, 5}, 6, 0));
  errors.push_back(refuses<ValueError>("kronecker_factors", "D must be at least 1, got 0",
                                       factors({2, 9}, {2, 5}, 0, 1), "kronecker_sizes"));
  const auto mix = [](const Shape& left, const Shape& right, const Shape& v, real scale) {
    return [=](const Context& c) {
      kronecker({tensor(c, left), tensor(c, right)}, tensor(c, v), scale);
    };
  };
  shape_error("kronecker", "v must be (..., D), got ()", mix({2, 2}, {3, 3}, {}, 1));
  shape_error("kronecker", "got (5, 2, 2), (5, 3, 3) and (5, 7)",
              mix({5, 2, 2}, {5, 3, 3}, {5, 7}, 1));
  shape_error("kronecker", "got (4, 2, 2), (5, 3, 3) and (5, 6)",
              mix({4, 2, 2}, {5, 3, 3}, {5, 6}, 1));
  shape_error("kronecker", "got (5, 2, 2), (5, 2, 3) and (5, 6)",
              mix({5, 2, 2}, {5, 2, 3}, {5, 6}, 1));
  value_error("kronecker", "scale must be finite, got nan",
              mix({5, 2, 2}, {5, 3, 3}, {5, 6}, std::numeric_limits<real>::quiet_NaN()));
}

}  // namespace

void add_mixers(OpCases& cases, ErrorCases& errors) {
  add_low_rank(cases, "householder", householder, reference::householder);
  add_low_rank(cases, "dplr", dplr, reference::dplr);
  add_kroneckers(cases);
  add_low_rank_errors(errors);
  add_kronecker_errors(errors);
}

void add_cross_entropy(OpCases& cases, ErrorCases& errors) {
  for (const auto& [leading, V] : {std::pair{Shape{}, 5},
                                   {Shape{1}, 1},
                                   {Shape{7}, 3},
                                   {Shape{3, 5}, 17},
                                   {Shape{2, 2}, 33},
                                   {Shape{65}, 2},
                                   {Shape{127}, 5},
                                   {Shape{3, 200}, 60},
                                   {Shape{3}, 1025}})
    for (const bool masked : {false, true}) add_losses(cases, leading, V, masked, -3, 3);
  add_losses(cases, {31}, 9, true, 990, 1010);
  add_losses(cases, {31}, 9, true, -1010, -990);
  add_losses(cases, {3, 5}, 17, true, -3, 3, 0.1);
  add_losses(cases, {2, 33}, 60, true, -3, 3, 0.5);
  add_losses(cases, {7}, 9, true, 990, 1010, 0.1);
  const auto on = [](const Shape& logits, std::vector<int32_t> targets, std::vector<real> mask) {
    return [=](const Context& c) {
      const int64_t rows = static_cast<int64_t>(targets.size()),
                    weights = static_cast<int64_t>(mask.size());
      masked_cross_entropy(full(c, logits, 0), IntTensor(c, Shape{rows}, targets),
                           Tensor(c, Shape{weights}, mask));
    };
  };
  const std::string op = "masked_cross_entropy";
  for (const double smoothing : {-0.1, 1.0})
    errors.push_back(refuses<ValueError>(op, "smoothing must be in [0, 1)", [=](const Context& c) {
      masked_cross_entropy(full(c, {1, 4}, 0), IntTensor(c, {1}, std::vector<int32_t>{0}),
                           full(c, {1}, 1), smoothing);
    }));
  errors.push_back(
      refuses<ShapeError>(op, "got (3), (2) and (2, 4)", on({2, 4}, {0, 1, 2}, {1, 1})));
  errors.push_back(refuses<ShapeError>(op, "got (2), (1) and (2, 4)", on({2, 4}, {0, 1}, {1})));
  errors.push_back(refuses<ShapeError>(op, "V >= 1, got (2, 0)", on({2, 0}, {0, 1}, {1, 1})));
  errors.push_back(refuses<ShapeError>(op, "V >= 1, got ()", on({}, {}, {})));
  errors.push_back(refuses<ValueError>(op, "got 4, 1 and 4", on({2, 4}, {0, 4}, {1, 1})));
  errors.push_back(refuses<ValueError>(op, "got -1, 0 and 4", on({2, 4}, {-1, 9}, {1, 0})));
  errors.push_back(refuses<ValueError>(op, "sum must be positive", on({2, 4}, {0, 1}, {0, 0})));
  errors.push_back(refuses<ValueError>(op, "sum must be positive", on({2, 4}, {0, 1}, {-2, 1})));
}

}  // namespace fprnn::tests
