#include <fprnn/core/isa.h>
#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/op.h>

#include <cmath>
#include <limits>

namespace fprnn {

FPRNN_KERNEL(int64_t local_solve_space(int64_t r, int64_t D))
FPRNN_KERNEL(void local_solve_forward(const LocalSolve&, real* space, int64_t begin, int64_t end))
FPRNN_KERNEL(void local_solve_adjoint(const LocalAdjoint&, real* space, int64_t begin, int64_t end))

namespace {

LocalMap map_of(std::string_view op, const LocalProblem& problem) {
  const Shape &u = problem.u.shape(), &offset = problem.offset.shape();
  require(u.rank() >= 2 && u.without(-2) == offset && problem.gain.shape() == offset, op,
          "u must be (..., r, D), offset and gain (..., D)", u, offset, problem.gain.shape());
  require(problem.alpha.shape() == u.without(-1), op, "u must be (..., r, D) and alpha (..., r)", u,
          problem.alpha.shape());
  const int64_t r = u[-2], D = u[-1];
  require(1 <= r && r <= D, op, "the rank r must be 1 to D", r, D);
  check_norm(op, problem.weight, problem.bias);
  for (const Tensor* parameter : {&problem.weight, &problem.bias})
    require(fits(*parameter, Shape{D}), op, "weight and bias must be (D)", parameter->shape(), D);
  require_together(op, problem.u, problem.alpha, problem.offset, problem.gain, problem.weight,
                   problem.bias);
  require<ValueError>(std::isfinite(problem.scale), op, "scale must be finite", problem.scale);
  require<ValueError>(problem.eps >= 0, op, "eps must not be negative", problem.eps);
  return {.u = problem.u.data(),
          .alpha = problem.alpha.data(),
          .offset = problem.offset.data(),
          .gain = problem.gain.data(),
          .weight = data_or_null(problem.weight),
          .bias = data_or_null(problem.bias),
          .tokens = offset.elements_before(-1),
          .r = r,
          .D = D,
          .scale = problem.scale,
          .in_order = problem.in_order,
          .eps = problem.eps};
}

template <class Args, class Kernel>
void over_tokens(Cpu cpu, const Args& args, const Kernel& kernel) {
  const int64_t r = args.map.r, D = args.map.D;
  run_with_space(cpu, kernel, args, args.map.tokens, (2 * r + 4) * r * D,
                 FPRNN_SELECT(cpu, local_solve_space)(r, D));
}

}  // namespace

Tensor local_solve(const LocalProblem& problem, real tolerance, int64_t max_iterations,
                   const IntTensor& iterations) {
  const std::string_view op = "local_solve";
  const LocalMap map = map_of(op, problem);
  require<ValueError>(std::isfinite(tolerance) && tolerance >= 0, op,
                      "tolerance must be finite and not negative", tolerance);
  require<ValueError>(max_iterations >= 1 && max_iterations <= std::numeric_limits<int32_t>::max(),
                      op, "max_iterations must be 1 to 2^31 - 1", max_iterations);
  const Context& context = problem.u.context();
  require(iterations.elements() == map.tokens, op, "there must be a count for each token",
          iterations.shape(), map.tokens);
  require_together(op, problem.u, iterations);
  const Tensor y(context, problem.offset.shape());
  launch(context, LocalSolve{.map = map,
                             .y = y.data(),
                             .iterations = iterations.data(),
                             .tolerance = tolerance,
                             .max_iterations = max_iterations});
  return y;
}

LocalSolution local_solve(const LocalProblem& problem, real tolerance, int64_t max_iterations) {
  const IntTensor iterations(problem.u.context(),
                             Shape{problem.offset.shape().elements_before(-1)});
  const Tensor y = local_solve(problem, tolerance, max_iterations, iterations);
  return {y, iterations.to_vector()};
}

Tensor local_adjoint(const LocalProblem& problem, const Tensor& y, const Tensor& w) {
  const std::string_view op = "local_adjoint";
  const LocalMap map = map_of(op, problem);
  for (const Tensor* given : {&y, &w})
    require(given->shape() == problem.offset.shape(), op, "y and w must have the shape of offset",
            given->shape(), problem.offset.shape());
  require_together(op, problem.u, y, w);
  const Tensor v(problem.u.context(), w.shape());
  launch(problem.u.context(),
         LocalAdjoint{.map = map, .y = y.data(), .w = w.data(), .v = v.data()});
  return v;
}

void run(Cpu cpu, const LocalSolve& args) {
  over_tokens(cpu, args, FPRNN_SELECT(cpu, local_solve_forward));
}

void run(Cpu cpu, const LocalAdjoint& args) {
  over_tokens(cpu, args, FPRNN_SELECT(cpu, local_solve_adjoint));
}

}  // namespace fprnn
