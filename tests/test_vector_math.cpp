// The float functions of core/vector_math.h, through the public ops: their largest errors in ulp
// against double precision, and their values where IEEE 754 says exactly what they are.
#include <doctest/doctest.h>
#include <fprnn/ops/elementwise.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>

#include "close.h"
#include "context.h"
#include "needs.h"

namespace fprnn::tests {

namespace {

struct Function {
  std::string name;
  Var (*apply)(const Var&);
  double (*truth)(double);
  double bound;                   // in ulp, as core/vector_math.h states it
  double gpu_bound;               // with CUDA's own exp, log1p and tanh, which are within 2
  bool subnormal_results = true;  // or, where false, anything below the normal numbers
};

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }
double softplus_of(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

const Function kFunctions[] = {
    {"exp", exp, [](double x) { return std::exp(x); }, 1.1, 2},
    {"sigmoid", sigmoid, sigmoid_of, 2.6, 4, false},
    {"softplus", softplus, softplus_of, 2.5, 5},
    {"tanh", tanh, [](double x) { return std::tanh(x); }, 3, 2},
};

std::vector<real> apply(const Context& context, const Function& function,
                        const std::vector<real>& x) {
  const Tensor argument(context, Shape{static_cast<int64_t>(x.size())}, x);
  return function.apply(argument).value().to_vector();
}

// Every step-th float from `first` to `last`, which have one sign, by their bits.
void append_floats(std::vector<real>& x, float first, float last, uint32_t step) {
  const uint32_t begin = std::bit_cast<uint32_t>(first), end = std::bit_cast<uint32_t>(last);
  for (uint64_t bits = begin; bits <= end; bits += step)
    x.push_back(static_cast<real>(std::bit_cast<float>(static_cast<uint32_t>(bits))));
}

// All exponents, subnormal numbers included, and more closely where the functions are not yet
// constant.
std::vector<real> sweep() {
  std::vector<real> x;
  for (const float sign : {1.0f, -1.0f}) {
    append_floats(x, std::copysign(0.0f, sign), sign * std::numeric_limits<float>::max(), 1009);
    append_floats(x, sign * 0x1p-12f, sign * 110, 101);
  }
  return x;
}

// The distance from the truth in units of the last place of a float of its size.
double ulps(const Function& function, double value, double truth) {
  if (std::isnan(truth)) return std::isnan(value) ? 0 : kInfinity;
  constexpr double kOverflow = 0x1p128 - 0x1p103;  // from here on a float is infinity
  constexpr double kSmallestNormal = std::numeric_limits<float>::min();
  if (truth >= kOverflow) return value == kInfinity ? 0 : kInfinity;
  if (!function.subnormal_results && std::abs(truth) < kSmallestNormal)
    return std::abs(value) <= kSmallestNormal ? 0 : kInfinity;
  const int exponent = truth == 0 ? -126 : std::max(std::ilogb(truth), -126);
  return std::abs(value - truth) / std::exp2(exponent - 23);
}

}  // namespace

TEST_CASE("vector math: largest errors over all floats" * needs_float()) {
  const std::vector<real> x = sweep();
  const auto contexts = contexts_of_every_kind();
  for (const Function& function : kFunctions) {
    std::vector<double> truth(x.size());
    for (size_t i = 0; i < x.size(); ++i) truth[i] = function.truth(x[i]);
    for (const Context& context : contexts) {
      const std::vector<real> y = apply(context, function, x);
      double worst = 0;
      real where = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const double error = ulps(function, y[i], truth[i]);
        if (!(error <= worst)) worst = error, where = x[i];
      }
      const bool gpu = context.device() == DeviceKind::cuda;
      CHECK_MESSAGE(
          worst <= (gpu ? function.gpu_bound : function.bound),
          function.name << " on " << describe(context) << ": " << worst << " ulp at " << where);
      if (!environment("REPORT", "").empty())
        std::printf("ulp %-9s %-8s %.3f at %.9g\n", function.name.c_str(),
                    gpu ? "cuda" : describe(context.isa()).c_str(), worst, double(where));
    }
  }
}

TEST_CASE("vector math: the functions where their values are exact") {
  constexpr real kInf = std::numeric_limits<real>::infinity(),
                 kNan = std::numeric_limits<real>::quiet_NaN();
  const std::vector<real> x{0, real(-0.0), kInf, -kInf};
  for (const Context& context : contexts_of_every_kind()) {
    CHECK(apply(context, kFunctions[0], x) == std::vector<real>{1, 1, kInf, 0});
    CHECK(apply(context, kFunctions[1], x) == std::vector<real>{real(0.5), real(0.5), 1, 0});
    CHECK(apply(context, kFunctions[2], x) == std::vector<real>{real(M_LN2), real(M_LN2), kInf, 0});
    CHECK(apply(context, kFunctions[3], x) == std::vector<real>{0, 0, 1, -1});
    // Alone, among others in a register, and in the remainder.
    for (const Function& function : kFunctions)
      for (const size_t size : {1, 3, 16, 21}) {
        std::vector<real> values(size, 1);
        values[size / 2] = kNan;
        const auto y = apply(context, function, values);
        for (size_t i = 0; i < size; ++i)
          CHECK_MESSAGE(std::isnan(y[i]) == (i == size / 2), function.name);
      }
  }
}

TEST_CASE("vector math: overflow and underflow" * needs_float()) {
  constexpr real kInf = std::numeric_limits<real>::infinity(),
                 kMax = std::numeric_limits<real>::max();
  constexpr real kTiny = std::numeric_limits<real>::denorm_min();
  for (const Context& context : contexts_of_every_isa()) {
    const auto exp_of = apply(context, kFunctions[0],
                              {real(88.722), real(88.723), real(88.73), 200, kMax, -104, -kMax});
    CHECK(std::isfinite(exp_of[0]));
    CHECK(std::vector<real>(exp_of.begin() + 2, exp_of.end()) ==
          std::vector<real>{kInf, kInf, kInf, 0, 0});
    CHECK(apply(context, kFunctions[0], {real(-103.5), real(-0x1p-100), kTiny}) ==
          std::vector<real>{kTiny, 1, 1});
    CHECK(apply(context, kFunctions[1], {kMax, -kMax, 100, -200}) == std::vector<real>{1, 0, 1, 0});
    CHECK(apply(context, kFunctions[2], {kMax, -kMax, 100, -104}) ==
          std::vector<real>{kMax, 0, 100, 0});
    CHECK(apply(context, kFunctions[3], {kMax, -kMax, 20, kTiny, -kTiny}) ==
          std::vector<real>{1, -1, 1, kTiny, -kTiny});
  }
}

}  // namespace fprnn::tests
