// The sizes of a tensor's axes, row-major: the last axis is contiguous.
#pragma once

#include <fprnn/core/check.h>

#include <array>
#include <initializer_list>

namespace fprnn {

class Shape {
 public:
  static constexpr int kMaxRank = 8;  // the most axes

  Shape() = default;  // rank 0: a scalar, one element
  // ShapeError: rank above kMaxRank, a negative size, or a number of elements that overflows.
  Shape(std::initializer_list<int64_t> sizes);
  explicit Shape(std::span<const int64_t> sizes);

  int rank() const { return rank_; }
  int64_t elements() const { return elements_; }
  int64_t operator[](int axis) const;  // a negative axis counts from the end
  int axis(int axis) const;            // the same axis as a number in [0, rank)

  Shape with(int axis, int64_t size) const;  // the axis resized
  Shape without(int axis) const;             // the axis removed
  Shape appended(int64_t size) const;        // one more axis at the end
  int64_t elements_before(int axis) const;   // product of the sizes left of the axis
  int64_t elements_after(int axis) const;    // product of the sizes right of the axis
  // All of them, one an axis.
  std::span<const int64_t> sizes() const { return {sizes_.data(), static_cast<size_t>(rank_)}; }

  bool operator==(const Shape& other) const;

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
  int64_t elements_ = 1;
};

std::string describe(const Shape& shape);  // "(2, 7, 4)"

}  // namespace fprnn
