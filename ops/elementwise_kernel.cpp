#include <fprnn/core/vector_math.h>
#include <fprnn/ops/elementwise_functions.h>

namespace fprnn::FPRNN_ISA {

void unary_forward(const UnaryForward& args, int64_t begin, int64_t end) {
  const real* x = args.x + begin;
  real* y = args.y + begin;
  with_function(args.function, args.scale, args.shift, [&](auto function) {
    for_packs(end - begin, [&](int64_t i, auto packs) {
      packs.store(y + i, function.value(packs.load(x + i)));
    });
  });
}

void unary_backward(const UnaryBackward& args, int64_t begin, int64_t end) {
  const real* kept = args.kept + begin;
  const real* dy = args.dy + begin;
  real* dx = args.dx + begin;
  with_function(args.function, args.scale, args.shift, [&](auto function) {
    for_packs(end - begin, [&](int64_t i, auto packs) {
      packs.store(dx + i, packs.load(dy + i) * function.slope(packs.load(kept + i)));
    });
  });
}

bool slope_takes_result(Unary function) {
  bool takes_result = false;
  with_function(function, 1, 0, [&](auto function) {
    takes_result = requires { function.kSlopeTakesResult; };
  });
  return takes_result;
}

// Runs of a up to the next start of b.
void binary_forward(const BinaryForward& args, int64_t begin, int64_t end) {
  with_function(args.function, 1, 0, [&](auto function) {
    for (int64_t start = begin; start < end;) {
      const int64_t phase = start % args.period;
      const int64_t length = minimum(end - start, args.period - phase);
      const real* a = args.a + start;
      const real* b = args.b + phase;
      real* y = args.y + start;
      for_lanes(length, [&](int64_t i, auto lanes) {
        lanes.store(y + i, function.value(lanes.load(a + i), lanes.load(b + i)));
      });
      start += length;
    }
  });
}

}  // namespace fprnn::FPRNN_ISA
