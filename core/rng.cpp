#include <fprnn/core/parallel.h>
#include <fprnn/core/rng.h>

#include <algorithm>

namespace fprnn {

namespace {

Tensor fill(const Context& context, const Shape& shape, Rng& rng, RandomFill args) {
  Tensor out(context, shape);
  args.out = out.data();
  args.count = out.elements();
  args.rng = rng.next_stream();
  launch(context, args);
  return out;
}

}  // namespace

Tensor uniform(const Context& context, const Shape& shape, real low, real high, Rng& rng) {
  const real before_high = std::nextafter(high, low), part = std::isinf(high - low) ? real(0.5) : 1;
  return fill(context, shape, rng,
              {.distribution = Distribution::uniform,
               .offset = part * low,
               .scale = part * high - part * low,
               .times = 1 / part,
               .least = std::min(low, before_high),
               .most = std::max(low, before_high)});
}

Tensor normal(const Context& context, const Shape& shape, real mean, real deviation, Rng& rng) {
  return fill(context, shape, rng,
              {.distribution = Distribution::normal, .offset = mean, .scale = deviation});
}

void run(Cpu cpu, const RandomFill& args) {
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      args.out[i] = args.placed(
          args.offset + args.scale * random_number(args.distribution, args.rate, args.rng, i));
  });
}

}  // namespace fprnn
