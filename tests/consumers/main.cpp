// A program of somebody else's: it has the library's headers and nothing else of ours.
#include <fprnn/core/build_info.h>
#include <fprnn/ops/ops.h>

#include <cstdio>

int main() {
  const fprnn::Context context =
      fprnn::gpu_is_there() ? fprnn::Context::cuda() : fprnn::Context::cpu({.threads = 2});
  const fprnn::real x[] = {1, 2, 3, 4};
  fprnn::Parameter w{"w", fprnn::Tensor(context, {2, 1}, std::array<fprnn::real, 2>{5, 6}), {}};

  // y = x w = (17, 39) and loss = y.y, so d loss / d w = 2 x^T y = (268, 380).
  fprnn::Tape tape(context);
  const fprnn::Var y = matmul(fprnn::Tensor(context, {2, 2}, x), tape.leaf(w));
  tape.backward(sum(square(y)));

  const std::vector<fprnn::real> gradient = w.gradient.to_vector();
  std::printf("%s, on %s: gradient (%g, %g)\n", describe(fprnn::build_info()).c_str(),
              describe(context).c_str(), gradient[0], gradient[1]);
  return gradient == std::vector<fprnn::real>{268, 380} ? 0 : 1;
}
