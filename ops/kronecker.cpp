#include <fprnn/core/isa.h>
#include <fprnn/ops/kronecker.h>
#include <fprnn/ops/op.h>

#include <cmath>

namespace fprnn {

FPRNN_KERNEL(int64_t kronecker_factor_scratch(int64_t m))
FPRNN_KERNEL(void kronecker_factor_forward(const KroneckerFactorForward&, real* scratch,
                                           int64_t begin, int64_t end))
FPRNN_KERNEL(void kronecker_factor_backward(const KroneckerFactorBackward&, real* scratch,
                                            int64_t begin, int64_t end))
FPRNN_KERNEL(void kronecker_forward(const KroneckerForward&, real* scratch, int64_t begin,
                                    int64_t end))
FPRNN_KERNEL(void kronecker_backward(const KroneckerBackward&, real* scratch, int64_t begin,
                                     int64_t end))

KroneckerSizes kronecker_sizes(int64_t D) {
  require<ValueError>(D >= 1, "kronecker_sizes", "D must be at least 1", D);
  require<ValueError>(D < int64_t{1} << 31, "kronecker_sizes", "D must be below 2^31", D);
  int64_t m1 = 1;
  for (int64_t m = 1; m * m <= D; ++m)
    if (D % m == 0) m1 = m;
  return {m1, D / m1};
}

namespace {

Shape square_matrices(const Shape& tokens, int64_t m) { return tokens.appended(m).appended(m); }

// The forward contracts of the two factors: the first starts each row of k and gates, the second
// ends it.
std::array<KroneckerFactorForward, 2> factor_contracts(const real* k, const real* gates,
                                                       int64_t tokens, KroneckerSizes sizes,
                                                       KroneckerNorm norm, real eps) {
  const auto [m1, m2] = sizes;
  const KroneckerFactorForward first{.k = k,
                                     .gates = gates,
                                     .tokens = tokens,
                                     .m = m1,
                                     .k_stride = sizes.triangles(),
                                     .gate_stride = m1 + m2,
                                     .norm = norm,
                                     .transposed = false,
                                     .eps = eps};
  KroneckerFactorForward second = first;
  second.k += m1 * (m1 + 1) / 2;
  second.gates += m1;
  second.m = m2;
  second.transposed = true;
  return {first, second};
}

}  // namespace

KroneckerFactors kronecker_factors(const Var& k, const Var& gates, int64_t D, KroneckerNorm norm,
                                   real eps) {
  const KroneckerSizes sizes = kronecker_sizes(D);
  require(k.shape().rank() >= 1 && k.size(-1) == sizes.triangles(), "kronecker_factors",
          "k must hold the two upper triangles: k and their length", k.shape(), sizes.triangles());
  require(gates.shape() == k.shape().with(-1, sizes.m1 + sizes.m2), "kronecker_factors",
          "gates must be (..., m1 + m2): gates, k, m1 and m2", gates.shape(), k.shape(), sizes.m1,
          sizes.m2);
  require<ValueError>(eps > 0, "kronecker_factors", "eps must be positive", eps);
  require_together("kronecker_factors", k, gates);
  const Shape leading = k.shape().without(-1);
  const int64_t tokens = leading.elements();
  const Tensor factors[] = {Tensor(k.context(), square_matrices(leading, sizes.m1)),
                            Tensor(k.context(), square_matrices(leading, sizes.m2))};
  auto contracts = factor_contracts(k.data(), gates.data(), tokens, sizes, norm, eps);
  for (int i = 0; i < 2; ++i) {
    contracts[i].factor = factors[i].data();
    launch(k.context(), contracts[i]);
  }
  const auto outputs = record_all(
      "kronecker_factors", {k, gates}, {factors[0], factors[1]},
      [contracts, k, gates, tokens, sizes, norm, eps](Backward& back) {
        const Tensor dk = like(k), dgates = like(gates);
        const auto at = factor_contracts(dk.data(), dgates.data(), tokens, sizes, norm, eps);
        for (int i = 0; i < 2; ++i)
          launch(k.context(), KroneckerFactorBackward{.forward = contracts[i],
                                                      .dfactor = back.output(i).data(),
                                                      .dk = const_cast<real*>(at[i].k),
                                                      .dgates = const_cast<real*>(at[i].gates)});
        give_all(back, {dk, dgates});
      });
  return {outputs[0], outputs[1]};
}

Var kronecker(const KroneckerFactors& factors, const Var& v, real scale) {
  const auto& [left, right] = factors;
  require(v.shape().rank() >= 1, "kronecker", "v must be (..., D)", v.shape());
  const Shape leading = v.shape().without(-1);
  const int64_t m1 = left.size(-1), m2 = right.size(-1);
  require(m1 * m2 == v.size(-1) && left.shape() == square_matrices(leading, m1) &&
              right.shape() == square_matrices(leading, m2),
          "kronecker", "factors must be (..., m1, m1) and (..., m2, m2), v (..., m1 m2)",
          left.shape(), right.shape(), v.shape());
  require<ValueError>(std::isfinite(scale), "kronecker", "scale must be finite", scale);
  require_together("kronecker", v, left, right);
  const Tensor y(v.context(), v.shape());
  const KroneckerForward forward{.left = left.data(),
                                 .right = right.data(),
                                 .v = v.data(),
                                 .y = y.data(),
                                 .tokens = leading.elements(),
                                 .m1 = m1,
                                 .m2 = m2,
                                 .scale = scale};
  launch(v.context(), forward);
  return record("kronecker", {left, right, v}, y,
                [forward, left = left, right = right, v](Backward& back) {
                  const Tensor dleft = like(left), dright = like(right), dv = like(v);
                  launch(v.context(), KroneckerBackward{.forward = forward,
                                                        .dy = back.output().data(),
                                                        .dleft = dleft.data(),
                                                        .dright = dright.data(),
                                                        .dv = dv.data()});
                  give_all(back, {dleft, dright, dv});
                });
}

void run(Cpu cpu, const KroneckerFactorForward& args) {
  const int64_t m = args.m;
  run_with_space(cpu, FPRNN_SELECT(cpu, kronecker_factor_forward), args, args.tokens, m * m * m,
                 FPRNN_SELECT(cpu, kronecker_factor_scratch)(m));
}

void run(Cpu cpu, const KroneckerFactorBackward& args) {
  const int64_t m = args.forward.m;
  run_with_space(cpu, FPRNN_SELECT(cpu, kronecker_factor_backward), args, args.forward.tokens,
                 3 * m * m * m, FPRNN_SELECT(cpu, kronecker_factor_scratch)(m));
}

void run(Cpu cpu, const KroneckerForward& args) {
  const int64_t D = args.m1 * args.m2;
  run_with_space(cpu, FPRNN_SELECT(cpu, kronecker_forward), args, args.tokens,
                 D * (args.m1 + args.m2), 2 * D);
}

void run(Cpu cpu, const KroneckerBackward& args) {
  const int64_t m1 = args.forward.m1, m2 = args.forward.m2;
  run_with_space(cpu, FPRNN_SELECT(cpu, kronecker_backward), args, args.forward.tokens,
                 3 * m1 * m2 * (m1 + m2), 4 * m1 * m2 + m2 * m2);
}

}  // namespace fprnn
