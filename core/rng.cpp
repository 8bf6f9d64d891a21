#include <fprnn/core/parallel.h>
#include <fprnn/core/rng.h>

namespace fprnn {

namespace {

Tensor fill(const Context& context, const Shape& shape, Distribution distribution, real offset,
            real scale, Rng& rng) {
  Tensor out(context, shape);
  launch(context, RandomFill{.out = out.data(),
                             .count = out.elements(),
                             .rng = rng.next_stream(),
                             .distribution = distribution,
                             .offset = offset,
                             .scale = scale});
  return out;
}

}  // namespace

Tensor uniform(const Context& context, const Shape& shape, real low, real high, Rng& rng) {
  return fill(context, shape, Distribution::uniform, low, high - low, rng);
}

Tensor normal(const Context& context, const Shape& shape, real mean, real deviation, Rng& rng) {
  return fill(context, shape, Distribution::normal, mean, deviation, rng);
}

void run(Cpu cpu, const RandomFill& args) {
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      args.out[i] =
          args.offset + args.scale * random_number(args.distribution, args.rate, args.rng, i);
  });
}

}  // namespace fprnn
