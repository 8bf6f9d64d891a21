// What the .cpp files of ops share: checks of optional inputs, room for gradients, and loops over
// a kernel's work.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/parallel.h>

namespace fprnn {

// Whether an optional input is absent or has this shape.
template <class X>
bool fits(const X& x, const Shape& shape) {
  return !x.defined() || x.shape() == shape;
}

// Whether all tensors of a trace are there, each with its shape, or none is.
struct TracePart {
  const Tensor& tensor;
  Shape shape;
};
inline bool all_or_none(std::initializer_list<TracePart> trace) {
  const auto there = [](const TracePart& part) { return part.tensor.defined(); };
  return std::none_of(trace.begin(), trace.end(), there) ||
         std::all_of(trace.begin(), trace.end(), [&](const TracePart& part) {
           return there(part) && part.tensor.shape() == part.shape;
         });
}

// A tensor of x's Context and shape, not initialised; undefined where x is.
template <class X>
Tensor like(const X& x) {
  return x.defined() ? Tensor(x.context(), x.shape()) : Tensor();
}
// The same where a gradient of that input, which is x, is wanted; else undefined.
template <class X>
Tensor wanted_like(const Backward& back, int input, const X& x) {
  return back.wants(input) ? like(x) : Tensor();
}
// Gives the gradients of inputs 0, 1, ..; passes over undefined ones.
inline void give_all(Backward& back, const std::vector<Tensor>& gradients) {
  for (size_t i = 0; i < gradients.size(); ++i)
    if (gradients[i].defined()) back.accumulate(static_cast<int>(i), gradients[i]);
}

// kernel(args, begin, end) over [0, count) in pieces of `grain`.
template <class Kernel, class Args>
void run_pieces(Cpu cpu, const Kernel& kernel, const Args& args, int64_t count, int64_t grain) {
  parallel_for(cpu, count, grain, [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}
// kernel(args, space, begin, end) over [0, count), where each costs `cost` operations: at most 256
// pieces, each with `reals` of working space of its own.
template <class Kernel, class Args>
void run_with_space(Cpu cpu, const Kernel& kernel, const Args& args, int64_t count, int64_t cost,
                    int64_t reals) {
  const int64_t grain = std::max(grain_for(cost), pieces(count, 256));
  const Tensor space(cpu.context, Shape{pieces(count, grain), reals});
  parallel_for(cpu, count, grain, [&](int64_t begin, int64_t end) {
    kernel(args, space.data() + begin / grain * reals, begin, end);
  });
}
// kernel(args, space, unit) for each unit, where each costs `cost` operations: at most `many`
// pieces a thread, each with `reals` of working space of its own. Units do not meet, so how many
// make a piece changes no bits.
template <class Kernel, class Args>
void run_units(Cpu cpu, const Kernel& kernel, const Args& args, int64_t units, int64_t cost,
               int64_t reals, int64_t many = 4) {
  const int64_t grain = std::max(grain_for(cost), pieces(units, many * cpu.context.threads()));
  const Tensor space(cpu.context, Shape{pieces(units, grain), reals});
  parallel_for(cpu, units, grain, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit)
      kernel(args, space.data() + begin / grain * reals, unit);
  });
}

}  // namespace fprnn
