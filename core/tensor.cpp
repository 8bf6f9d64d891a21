#include <fprnn/core/device.h>
#include <fprnn/core/tensor.h>

#include <cstring>

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
  launch(context, FromHost{.from = values.data(),
                           .to = data(),
                           .bytes = static_cast<int64_t>(values.size_bytes())});
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
  std::vector<Element> values = host_vector<Element>(shape_);
  launch(context(), ToHost{.from = data(),
                           .to = values.data(),
                           .bytes = elements() * static_cast<int64_t>(sizeof(Element))});
  return values;
}

template <class Element>
BasicTensor<Element> BasicTensor<Element>::on(const Context& other) const {
  if (context() == other) return *this;
  return {other, shape_, to_vector()};
}

template class BasicTensor<real>;
template class BasicTensor<int32_t>;

}  // namespace FPRNN_REAL

void run(Cpu, const FromHost& args) {
  if (args.bytes > 0) std::memcpy(args.to, args.from, args.bytes);
}
void run(Cpu, const ToHost& args) {
  if (args.bytes > 0) std::memcpy(args.to, args.from, args.bytes);
}

}  // namespace fprnn
