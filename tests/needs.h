// TEST_CASE("..." * needs_gpu()): a case runs where it can and otherwise is skipped, counted and
// printed with its reason.
#pragma once

#include <doctest/doctest.h>
#include <fprnn/core/real.h>

#include "context.h"

namespace fprnn::tests {

struct Needs {
  bool met;
  const char* what;
  void fill(doctest::detail::TestCase& test) const {
    if (met) return;
    test.m_skip = true;
    test.m_description = what;
  }
};

inline Needs needs_gpu() { return {on_gpu(), "needs a GPU, DEVICE=cuda"}; }
inline Needs needs_double() { return {kDouble, "needs the double build"}; }
inline Needs needs_float() { return {!kDouble, "needs the float build"}; }
// Minutes of work on tensors that fill a large GPU.
inline Needs needs_large() {
  return {on_gpu() && !environment("LARGE", "").empty(), "needs a large GPU, DEVICE=cuda LARGE=1"};
}

// SMALL=1: the op table without its larger cases, for tools that make everything slow.
inline bool small_only() { return !environment("SMALL", "").empty(); }

}  // namespace fprnn::tests
