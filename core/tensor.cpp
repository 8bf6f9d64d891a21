#include <fprnn/core/tensor.h>

#include <algorithm>

namespace fprnn {

inline namespace FPRNN_REAL {

Storage::Storage(const Context& context, int64_t bytes)
    : context_(context), bytes_(bytes), data_(context.memory().allocate(bytes)) {}

Storage::~Storage() { context_.memory().release(data_, bytes_); }

template <class Element>
BasicTensor<Element>::BasicTensor(const Context& context, const Shape& shape) : shape_(shape) {
  int64_t bytes = 0;
  require<MemoryError>(!__builtin_mul_overflow(shape.elements(), int64_t{sizeof(Element)}, &bytes),
                       "tensor", "a tensor's bytes must fit the address space", shape);
  storage_ = std::make_shared<Storage>(context, bytes);
}

template <class Element>
BasicTensor<Element>::BasicTensor(const Context& context, const Shape& shape,
                                  std::span<const Element> values)
    : BasicTensor(context, shape) {
  require(static_cast<int64_t>(values.size()) == shape.elements(), "tensor",
          "there must be one value for each element", values.size(), shape);
  std::ranges::copy(values, data());
}

template <class Element>
BasicTensor<Element> BasicTensor<Element>::reshaped(const Shape& shape) const {
  require(shape.elements() == elements(), "tensor", "reshaping must keep the number of elements",
          shape_, shape);
  BasicTensor other = *this;
  other.shape_ = shape;
  return other;
}

template <class Element>
std::vector<Element> BasicTensor<Element>::to_vector() const {
  return {data(), data() + elements()};
}

template class BasicTensor<real>;
template class BasicTensor<int32_t>;

}  // namespace FPRNN_REAL

}  // namespace fprnn
