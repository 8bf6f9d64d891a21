#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/cells/fused.h>
#include <fprnn/models/solvers/sequential.h>
#include <fprnn/models/solvers/step_sweep.h>
#include <fprnn/ops/layout.h>

namespace fprnn {

namespace {

// The counts of all blocks, each by where it begins, as (B).
IntTensor together(const Context& context, const std::vector<IntTensor>& blocks) {
  const auto B = static_cast<int64_t>(blocks.size());
  if (B > 0 && blocks[0].elements() == B) return blocks[0];
  std::vector<int32_t> all;
  for (int64_t b = 0; b < B; b += blocks[b].elements()) {
    const std::vector<int32_t> some = blocks[b].to_vector();
    all.insert(all.end(), some.begin(), some.end());
  }
  return IntTensor(context, {B}, all);
}

// v = g + J^T v at the solution y. The problem is copied: it is that of now, whatever becomes of it
// before backward.
Adjoint sweep_back(const SequenceProblem& problem, const Tensor& y,
                   std::shared_ptr<const Trace> trace) {
  return [problem, y, trace = std::move(trace)](const Tensor& g) -> AdjointSolution {
    const auto& [map, in, past, options, recorded, carry_wanted] = problem;
    const GradientRule& rule = options.gradient;
    const Context& context = g.context();
    const int64_t B = g.size(0);
    const Tensor v = clone(g);
    const IntTensor iterations = int_zeros(context, {B});
    const bool direct = map.mixer.has_adjoint();
    const FusedForms* fused = map.cell.fused();
    if (fused != nullptr && fused->sweep_back(map, past, in, {y, v, iterations, rule, trace.get()}))
      return {v, direct ? IntTensor() : iterations};
    std::vector<IntTensor> counts(B);
    for_row_blocks(context, B, [&](int64_t begin, int64_t end) {
      counts[begin] = int_zeros(context, {end - begin});
      StepSweep(problem, begin, end).adjoint(y, v, counts[begin]);
    });
    return {v, direct ? IntTensor() : together(context, counts)};
  };
}

}  // namespace

Solution SequentialSolver::solve(const Map&, Tensor y) {
  const auto& [map, in, past, options, recorded, carry_wanted] = problem_;
  if (const FusedForms* fused = map.cell.fused()) {
    const SweepRequest to{y, options.of_a_step(), options.max_iterations, recorded, carry_wanted};
    if (const auto swept = fused->sweep(map, past, in, to)) {
      carry_ = swept->carry;
      Solution solution{.y = y, .iterations = swept->iterations, .residual = swept->residual};
      solution.adjoint = sweep_back(problem_, y, swept->trace);
      if (swept->trace != nullptr)
        solution.trace = [map = map, past = past, like = in, trace = swept->trace](
                             const Var& solved, const Vars& inputs) -> Evaluated<Var> {
          const auto applied =
              map.cell.fused()->apply(map, solved, past, like.with(inputs), trace.get());
          return applied->f;
        };
      return solution;
    }
  }
  const Context& context = y.context();
  const int64_t B = y.size(0);
  std::vector<IntTensor> counts(B);  // by where a block begins
  std::vector<Var> carries(B);
  for_row_blocks(context, B, [&](int64_t begin, int64_t end) {
    counts[begin] = int_zeros(context, {end - begin});
    carries[begin] = StepSweep(problem_, begin, end).solve(y, counts[begin]);
  });
  std::erase_if(carries, [](const Var& carry) { return !carry.defined(); });
  if (y.elements() > 0 && !carries.empty())
    carry_ = carries.size() == 1 ? carries[0].value() : concat(carries, 0).value();
  return {
      .y = y, .iterations = together(context, counts), .adjoint = sweep_back(problem_, y, nullptr)};
}

Tensor SequentialSolver::roots_at(const Tensor& y) const {
  const Tensor roots(y.context(), y.shape());
  for_row_blocks(y.context(), y.size(0), [&](int64_t begin, int64_t end) {
    StepSweep(problem_, begin, end).roots_at(y, roots);
  });
  return roots;
}

}  // namespace fprnn
