#include <fprnn/core/isa.h>
#include <fprnn/ops/krylov_solve.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/op.h>

#include <cmath>

namespace fprnn {

FPRNN_KERNEL(void kronecker_solve(const KroneckerSolve&, real* space, int64_t begin, int64_t end))

Tensor kronecker_solve(const KroneckerProblem& problem, real tolerance, int64_t max_iterations,
                       const IntTensor& iterations) {
  const std::string_view op = "kronecker_solve";
  const Shape& shape = problem.offset.shape();
  require(shape.rank() >= 1 && problem.gain.shape() == shape, op,
          "offset and gain must be (..., D)", shape, problem.gain.shape());
  const int64_t D = shape[-1], tokens = shape.elements_before(-1);
  const KroneckerSizes sizes = kronecker_sizes(D);
  const auto square = [&](int64_t m) { return shape.with(-1, m).appended(m); };
  require(problem.left.shape() == square(sizes.m1) && problem.right.shape() == square(sizes.m2), op,
          "the factors must be (..., m1, m1) and (..., m2, m2) with m1 m2 = D",
          problem.left.shape(), problem.right.shape(), shape);
  for (const Tensor* parameter : {&problem.weight, &problem.bias})
    require(fits(*parameter, Shape{D}), op, "weight and bias must be (D)", parameter->shape(), D);
  check_norm(op, problem.weight, problem.bias);
  require<ValueError>(tolerance >= 0 && std::isfinite(tolerance), op,
                      "the tolerance must be finite and not negative", tolerance);
  require<ValueError>(max_iterations >= 1 && max_iterations <= INT32_MAX, op,
                      "max_iterations must be at least 1 and below 2^31", max_iterations);
  const Context& context = problem.offset.context();
  require(iterations.elements() == tokens, op, "there must be a count for each token",
          iterations.shape(), tokens);
  require_together(op, problem.offset, problem.left, problem.right, problem.gain, problem.weight,
                   problem.bias, iterations);
  const Tensor y(context, shape);
  launch(context, KroneckerSolve{.left = problem.left.data(),
                                 .right = problem.right.data(),
                                 .offset = problem.offset.data(),
                                 .gain = problem.gain.data(),
                                 .weight = data_or_null(problem.weight),
                                 .bias = data_or_null(problem.bias),
                                 .y = y.data(),
                                 .iterations = iterations.data(),
                                 .tokens = tokens,
                                 .m1 = sizes.m1,
                                 .m2 = sizes.m2,
                                 .scale = problem.scale,
                                 .eps = problem.eps,
                                 .tolerance = tolerance,
                                 .max_iterations = max_iterations});
  return y;
}

LocalSolution kronecker_solve(const KroneckerProblem& problem, real tolerance,
                              int64_t max_iterations) {
  const Shape& shape = problem.offset.shape();
  const IntTensor iterations(problem.offset.context(),
                             Shape{shape.rank() == 0 ? 1 : shape.elements_before(-1)});
  const Tensor y = kronecker_solve(problem, tolerance, max_iterations, iterations);
  return {y, iterations.to_vector()};
}

void run(Cpu cpu, const KroneckerSolve& args) {
  const int64_t D = args.m1 * args.m2;
  const int64_t reals = 4 * D + krylov_space(D) + krylov_work(D);
  run_with_space(cpu, FPRNN_SELECT(cpu, kronecker_solve), args, args.tokens,
                 16 * D * (args.m1 + args.m2), pieces(reals, 16) * 16);
}

}  // namespace fprnn
