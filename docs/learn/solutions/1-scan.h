// Solutions of the exercises of chapter 1, docs/learn/exercises/1-scan.h.
#pragma once

#include <cstddef>
#include <vector>

namespace chapter1 {

using Numbers = std::vector<double>;

// h -> a h + b
struct Step {
  double a = 1, b = 0;
};

inline Step compose(const Step& early, const Step& late) {
  return {late.a * early.a, late.a * early.b + late.b};
}

// 1.1
inline Step repeated(const Step& step, long n) {
  Step done, power = step;  // step 1, 2, 4, .. times
  for (; n > 0; n /= 2) {
    if (n % 2 == 1) done = compose(done, power);
    power = compose(power, power);
  }
  return done;
}

// 1.2
inline Numbers scan_from_end(const Numbers& a, const Numbers& b) {
  Numbers h(a.size());
  double state = 0;
  for (size_t t = a.size(); t-- > 0;) h[t] = state = a[t] * state + b[t];
  return h;
}

// 1.3
inline Numbers factors_of_packed(const Numbers& a, const std::vector<bool>& starts) {
  Numbers factors = a;
  for (size_t t = 0; t < a.size(); ++t)
    if (starts[t]) factors[t] = 0;
  return factors;
}

// 1.4
struct Gradients {
  Numbers da, db;
  double dstart = 0;
};
inline Gradients scan_gradients(const Numbers& a, const Numbers& h, double start,
                                const Numbers& dh) {
  Gradients gradients{Numbers(a.size()), Numbers(a.size()), 0};
  for (size_t t = a.size(); t-- > 0;) {
    const double g = dh[t] + gradients.dstart;
    gradients.db[t] = g;
    gradients.da[t] = g * (t > 0 ? h[t - 1] : start);
    gradients.dstart = a[t] * g;
  }
  return gradients;
}

}  // namespace chapter1
