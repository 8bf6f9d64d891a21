// One fixed-point layer on two devices.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>

#include "fp_cases.h"

namespace fprnn::tests {

inline void copy_parameters(Module& from, Module& to) {
  const auto sources = from.parameters(), targets = to.parameters();
  REQUIRE(sources.size() == targets.size());
  for (size_t i = 0; i < sources.size(); ++i)
    assign(targets[i].parameter->value, sources[i].parameter->value.to_vector());
}

// One layer on both devices, with the same weights and input.
struct Twins {
  Built here, there;

  Twins(const Context& cpu, const Context& gpu, const Case& entry, const Shape& shape)
      : here(cpu, entry, shape), there(gpu, entry, shape) {
    copy_parameters(*here.layer, *there.layer);
    there.u = here.u.on(gpu);
  }
  void repeat_first_sequence() {
    const int64_t B = here.u.size(0), elements = here.u.elements() / B;
    for (int64_t b = 1; b < B; ++b)
      std::copy_n(here.u.data(), elements, here.u.data() + b * elements);
    there.u = here.u.on(there.context);
  }
  template <class Change>
  void both(const Change& change) {
    change(here);
    change(there);
  }
};

}  // namespace fprnn::tests
