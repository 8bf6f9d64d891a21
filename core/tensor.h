// A tensor: shared storage and a shape, contiguous and row-major. A copy shares the elements, as a
// pointer does. The library never writes to shared elements, with three exceptions: the value of a
// parameter (by the optimiser or when it is loaded), an optimiser's moments, and the batch of a
// replayed training step. clone (core/vector.h) keeps the numbers they have.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/shape.h>

#include <vector>

namespace fprnn {

inline namespace FPRNN_REAL {

// One block of a Context's memory, returned when the last tensor that uses it goes.
class Storage {
 public:
  Storage(const Context& context, int64_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  void* data() const { return data_; }
  const Context& context() const { return context_; }

 private:
  Context context_;
  int64_t bytes_;
  void* data_;
};

// Zeros on the host, one for each element of the shape. MemoryError: the host has no room for them.
template <class Element>
std::vector<Element> host_vector(const Shape& shape) {
  try {
    return std::vector<Element>(shape.elements());
  } catch (const std::exception&) {  // bad_alloc, or length_error where the vector itself refuses
    throw MemoryError("tensor", "the host must hold the elements", std::array{describe(shape)});
  }
}

// A tensor whose elements lie row after row; a handle: copies share them. Element: real or int32_t.
template <class Element>
class BasicTensor {
 public:
  BasicTensor() = default;                                  // empty: defined() is false
  BasicTensor(const Context& context, const Shape& shape);  // not initialised
  BasicTensor(const Context& context, const Shape& shape, std::span<const Element> values);

  bool defined() const { return storage_ != nullptr; }
  bool unique() const { return storage_.use_count() == 1; }  // no other tensor shares the elements
  const Shape& shape() const { return shape_; }
  int64_t size(int axis) const { return shape_[axis]; }
  int64_t elements() const { return shape_.elements(); }
  // UsageError: the tensor is empty.
  const Context& context() const { return storage().context(); }
  Element* data() const { return static_cast<Element*>(storage().data()); }  // the device's

  BasicTensor reshaped(const Shape& shape) const;  // the same elements, shared
  std::vector<Element> to_vector() const;          // a copy on the host; waits for the device
  BasicTensor on(const Context& other) const;      // in that Context: shared or copied

 private:
  const Storage& storage() const {
    require<UsageError>(defined(), "tensor", "an empty tensor has no elements and no Context");
    return *storage_;
  }

  std::shared_ptr<Storage> storage_;
  Shape shape_;
};

using Tensor = BasicTensor<real>;
using IntTensor = BasicTensor<int32_t>;  // tokens, targets

extern template class BasicTensor<real>;
extern template class BasicTensor<int32_t>;

}  // namespace FPRNN_REAL

// Whether one kernel may use two tensors, or Vars: they are of one Context, or both in the host's
// memory, or one is undefined. Two Contexts of one GPU do not wait for each other.
template <class X, class Y>
bool together(const X& x, const Y& y) {
  return !x.defined() || !y.defined() || x.context() == y.context() ||
         (x.context().device() == DeviceKind::cpu && y.context().device() == DeviceKind::cpu);
}
// UsageError: one of them may not be used together with the first.
template <class First, class... Others>
void require_together(std::string_view op, const First& first, const Others&... others) {
  require<UsageError>((together(first, others) && ...), op, "inputs must be in one Context");
}

// Copies between the host's memory and the device's.
struct FromHost {
  const void* from;
  void* to;
  int64_t bytes;
};
struct ToHost {
  const void* from;
  void* to;
  int64_t bytes;
};
void run(Cpu, const FromHost&);
void run(Cpu, const ToHost&);
void run(Cuda, const FromHost&);
void run(Cuda, const ToHost&);

}  // namespace fprnn
