#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/core/shape.h>

#include <algorithm>

namespace fprnn {

Shape::Shape(std::initializer_list<int64_t> sizes)
    : Shape(std::span<const int64_t>(sizes.begin(), sizes.size())) {}

Shape::Shape(std::span<const int64_t> sizes) {
  require(sizes.size() <= kMaxRank, "shape", "a tensor has at most 8 axes", sizes.size());
  rank_ = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
  // A zero must not hide a product that does not fit: parts of the shape are multiplied too.
  int64_t product = 1;
  for (const int64_t size : sizes) {
    require(size >= 0, "shape", "sizes must not be negative", size);
    require(!__builtin_mul_overflow(product, size == 0 ? 1 : size, &product), "shape",
            "the number of elements must fit 63 bits", *this);
  }
  elements_ = std::ranges::count(sizes, 0) > 0 ? 0 : product;
}

int Shape::axis(int axis) const {
  require(axis >= -rank_ && axis < rank_, "shape", "an axis must exist in the shape", axis, *this);
  return axis < 0 ? axis + rank_ : axis;
}

int64_t Shape::operator[](int axis) const { return sizes_[this->axis(axis)]; }

Shape Shape::with(int axis, int64_t size) const {
  auto sizes = sizes_;
  sizes[this->axis(axis)] = size;
  return Shape(std::span<const int64_t>(sizes.data(), rank_));
}

Shape Shape::without(int axis) const {
  auto sizes = sizes_;
  const int at = this->axis(axis);
  std::copy(sizes.begin() + at + 1, sizes.end(), sizes.begin() + at);
  return Shape(std::span<const int64_t>(sizes.data(), rank_ - 1));
}

Shape Shape::appended(int64_t size) const {
  require(rank_ < kMaxRank, "shape", "a tensor has at most 8 axes", *this);
  auto sizes = sizes_;
  sizes[rank_] = size;
  return Shape(std::span<const int64_t>(sizes.data(), rank_ + 1));
}

int64_t Shape::elements_before(int axis) const {
  int64_t product = 1;
  for (int i = 0; i < this->axis(axis); ++i) product *= sizes_[i];
  return product;
}

int64_t Shape::elements_after(int axis) const {
  int64_t product = 1;
  for (int i = this->axis(axis) + 1; i < rank_; ++i) product *= sizes_[i];
  return product;
}

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(sizes(), other.sizes());
}

std::string describe(const Shape& shape) {
  return fmt::format("({})", fmt::join(shape.sizes(), ", "));
}

}  // namespace fprnn
