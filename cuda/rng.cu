// The words are those of the CPU, so integers and uniforms are the same bits in any range; normal numbers
// differ by what log and cos in double do.
#include <fprnn/core/rng.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>

namespace fprnn {

void run(Cuda cuda, const RandomFill& args) {
  cuda::for_each(cuda, "random_fill", args.count, [args] __device__(int64_t i) {
    const real number = random_number(args.distribution, args.rate, args.rng, i);
    args.out[i] = args.placed(cuda::unfused(args.offset, args.scale, number));
  });
}

}  // namespace fprnn
