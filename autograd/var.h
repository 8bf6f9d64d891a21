// A value that may have a history: a tensor, the tape that recorded how it was computed, and its
// number there.
#pragma once

#include <fprnn/core/tensor.h>

namespace fprnn {

class Tape;

inline namespace FPRNN_REAL {

// Ops take and return Vars. A Tensor converts to a Var without history, so ops serve as plain
// functions too: nothing is recorded unless some input has a number. A Var must not outlive its
// tape, and the tape's backward ends its history: carry on with its value (autograd/tape.h).
class Var {
 public:
  Var() = default;
  Var(Tensor value, Tape* tape = nullptr, int64_t id = -1)
      : value_(std::move(value)), tape_(tape), id_(id) {}

  const Tensor& value() const { return value_; }  // its numbers
  const Shape& shape() const { return value_.shape(); }
  int64_t size(int axis) const { return value_.size(axis); }
  int64_t elements() const { return value_.elements(); }
  const real* data() const { return value_.data(); }
  const Context& context() const { return value_.context(); }
  bool defined() const { return value_.defined(); }

  Tape* tape() const { return tape_; }              // null for a plain tensor
  int64_t id() const { return id_; }                // -1: no gradient flows through it
  bool differentiable() const { return id_ >= 0; }  // whether a gradient flows through it

 private:
  Tensor value_;
  Tape* tape_ = nullptr;
  int64_t id_ = -1;
};

// The elements of a Var or Tensor, null if it is undefined.
template <class T>
auto data_or_null(const T& x) {
  return x.defined() ? x.data() : nullptr;
}

}  // namespace FPRNN_REAL

}  // namespace fprnn
