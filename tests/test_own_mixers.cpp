// Mixers of which the library knows products alone: a step's equation and its adjoint in Krylov's
// space (ops/krylov_solve.h), by themselves and in layers.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/norm.h>

#include <cmath>
#include <limits>

#include "close.h"
#include "fp_cases.h"

namespace fprnn::tests {

namespace {

constexpr real kSolved = kDouble ? real(1e-12) : real(1e-6);
constexpr int64_t kRows = 9;

// Rows with a matrix each, so large that plain steps go astray.
struct DenseRows {
  RowEquation at;
  Tensor matrices;  // (rows, D, D)

  DenseRows(const Context& context, int64_t D, bool normalised, real size = 2, bool rms = false) {
    const auto draw = [&](const Shape& shape, uint64_t stream, real bound) {
      return random(context, shape, stream, bound);
    };
    matrices = draw({kRows, D, D}, 1, size / std::sqrt(static_cast<real>(D)));
    at = {draw({kRows, D}, 2, 1), draw({kRows, D}, 3, 1)};
    if (!normalised) return;
    at.weight = affine(draw({D}, 4, real(0.2)), 1, 1).value();
    if (!rms) at.bias = draw({D}, 5, real(0.3));
  }
  DenseRows row(int64_t i) const {
    DenseRows one = *this;
    for (Tensor* part : {&one.matrices, &one.at.offset, &one.at.gain})
      *part = slice(*part, 0, i, i + 1).value();
    return one;
  }
  Tensor product(const Tensor& x) const {
    const Var columns = reshape(x, x.shape().appended(1));
    return batched_matmul(matrices, columns).value().reshaped(x.shape());
  }
  Tensor f(const Tensor& y) const {
    const Var x = add(at.offset, mul(at.gain, product(y)));
    return any_norm(x, at.weight, at.bias, at.eps).value();
  }
  struct Solved {
    Tensor y;
    std::vector<int32_t> counts;
  };
  Solved solve(real tolerance, int64_t max_iterations) const {
    const IntTensor counts = int_zeros(at.offset.context(), {at.offset.size(0)});
    const Tensor y = krylov_solve(
        at, [&](const Tensor& x) { return product(x); }, tolerance, max_iterations, counts);
    return {y, counts.to_vector()};
  }
  // Of each row, max |f(y) - y| / (max |f(y)| + kResidualFloor).
  std::vector<real> residuals(const Tensor& y) const {
    const Shape rows{y.size(0), 1, y.size(1)};
    return largest_residuals(f(y).reshaped(rows), y.reshaped(rows)).to_vector();
  }
};

// The Kronecker mixer without what the library knows of it.
class OwnKronecker : public Mixer {
 public:
  OwnKronecker(Module& parent, std::string name, const Init& init, const MixerOptions& options,
               const KroneckerSizes& sizes)
      : Mixer(parent, std::move(name), init, options,
              {{"uv_project", sizes.triangles()}, {"diag", sizes.m1 + sizes.m2, true}}),
        split_(sizes.triangles()) {}

  MixerFactors factors(const Var& projected) const override {
    const auto [left, right] = kronecker_factors(silu(slice(projected, -1, 0, split_)),
                                                 sigmoid(slice(projected, -1, split_, outputs())),
                                                 options_.channels, options_.norm, options_.eps);
    return {left, right};
  }
  Var apply(const MixerFactors& q, const Var& v) const override {
    return kronecker({q[0], q[1]}, v, options_.scale);
  }

 private:
  const int64_t split_;
};

std::unique_ptr<Mixer> make_own(Module& parent, std::string name, const Init& init,
                                const MixerOptions& options) {
  return std::make_unique<OwnKronecker>(parent, std::move(name), init, options,
                                        kronecker_sizes(options.channels));
}

// A layer at initial weights: its solution, the exact gradient of u, and how both went.
struct Run {
  Tensor y, gradient;
  FixedPointReport report, adjoint;

  template <class Layer, class Options>
  Run(Layer*, Options options, bool own, real tolerance) {
    constexpr int64_t kB = 4, kT = 12;
    const Context context = test_context();
    options.mixer = MixerKind::kronecker;
    if (own) options.make_mixer = make_own;
    Root root;
    Rng rng{.seed = 1, .stream = 0};
    Layer layer(root, "layer", {context, rng}, options);
    layer.solver.unconverged = Unconverged::accept;
    layer.solver.gradient.kind = GradientRule::Kind::exact;
    if (tolerance > 0) layer.solver.tolerance = layer.solver.gradient.tolerance = tolerance;
    Tape tape(context);
    const Var u = tape.variable(normal(context, {kB, kT, options.d_model}, 0, 1, rng));
    const Var out = layer.forward(u);
    y = layer.solution();
    report = layer.report();
    gradient = tape.vjp({out}, {random(context, out.shape(), 2)}, {u}).front();
    adjoint = layer.adjoint_report();
  }
};

template <class Layer, class Options>
void check_own(const Options& options, const std::string& name) {
  Layer* const of = nullptr;
  INFO(name);
  const Run own(of, options, true, 0), known(of, options, false, 0);
  CHECK(own.report.unconverged() == 0);
  CHECK(own.report.mean_iterations() <= known.report.mean_iterations() + 2);
  CHECK(own.adjoint.unconverged() == 0);
  CHECK(own.adjoint.max_iterations() <= 100);
  const Run exact(of, options, true, kSolveTolerance), same(of, options, false, kSolveTolerance);
  check_close(name + ", y", exact.y.to_vector(), same.y.to_vector(), kSame);
  check_close(name + ", gradient", exact.gradient.to_vector(), same.gradient.to_vector(),
              kSameGradient);
}

}  // namespace

TEST_CASE("own mixers: at default options a step and its adjoint are solved as a built-in's are") {
  if (on_gpu()) return;  // where they are iterated
  for (const real scale : {real(1), real(2)}) {
    check_own<FpMamba>(FpMambaOptions{.d_model = 32, .scale = scale},
                       fmt::format("mamba, scale {}", scale));
    check_own<FpMamba>(FpMambaOptions{.d_model = 32, .scale = scale, .glu_in_loop = true},
                       fmt::format("mamba, gate in the loop, scale {}", scale));
    check_own<FpRnn>(FpRnnOptions{.d_model = 32, .scale = scale},
                     fmt::format("rnn, scale {}", scale));
  }
}

TEST_CASE("krylov solve: y solves the equation of every row") {
  const Context context = Context::cpu(test_options());
  for (const int64_t D : {1, 2, 5, 33, 128, 160})
    for (const int norms : {0, 1, 2})  // none, LayerNorm, RMS
      for (const real size : {real(0.5), real(4)}) {
        if (D > kKrylovLong && size > 1) continue;  // the space is not whole
        INFO("D " << D << " norm " << norms << " size " << size);
        const DenseRows rows(context, D, norms > 0, size, norms == 2);
        const auto solved = rows.solve(real(100) * kSolved, 400);
        const std::vector<real> residuals = rows.residuals(solved.y);
        for (int64_t row = 0; row < kRows; ++row) {
          CHECK(solved.counts[row] < 400);
          CHECK(residuals[row] <= real(200) * kSolved);
        }
      }
}

TEST_CASE("krylov solve: a row's bits and count are its own, on every instruction set") {
  for (const Context& context : contexts_of_every_isa())
    for (const bool normalised : {true, false})
      for (const int64_t most : {1, 2, 3, 5, 12, 400}) {
        INFO("at most " << most << ", normalised " << normalised);
        const DenseRows rows(context, 21, normalised);
        const auto all = rows.solve(kSolved, most);
        for (int64_t row = 0; row < kRows; ++row) {
          const auto alone = rows.row(row).solve(kSolved, most);
          CHECK(alone.counts[0] == all.counts[row]);
          CHECK(alone.counts[0] <= most);
          CHECK(alone.y.to_vector() == slice(all.y, 0, row, row + 1).value().to_vector());
        }
      }
}

TEST_CASE("krylov solve: rows of zeros and of what is not a number") {
  const Context context = Context::cpu(test_options());
  for (const bool normalised : {true, false}) {
    const DenseRows rows(context, 12, normalised);
    const std::vector<real> before = rows.solve(kSolved, 400).y.to_vector();
    for (int64_t d = 0; d < 12; ++d)
      for (const Tensor& part : {rows.at.offset, rows.at.gain}) exchange_element(part, d, 0);
    exchange_element(rows.at.offset, 12 + 3, std::numeric_limits<real>::quiet_NaN());
    exchange_element(rows.matrices, 2 * 144 + 5, std::numeric_limits<real>::infinity());
    const auto broken = rows.solve(kSolved, 400);
    const std::vector<real> after = broken.y.to_vector();
    CHECK(broken.counts[0] == 1);
    for (int64_t d = 0; d < 12; ++d)
      CHECK(after[d] == (normalised ? rows.at.bias.to_vector()[d] : 0));
    for (const int64_t row : {1, 2}) {
      CHECK(broken.counts[row] == 400);
      CHECK(std::isnan(after[row * 12]));
    }
    CHECK(std::equal(before.begin() + 3 * 12, before.end(), after.begin() + 3 * 12));
  }
}

TEST_CASE("krylov solve: what it refuses") {
  const Context context = Context::cpu(test_options());
  const DenseRows rows(context, 12, true);
  CHECK_THROWS_AS(rows.solve(-1, 5), ValueError);
  CHECK_THROWS_AS(rows.solve(1, 0), ValueError);
  DenseRows wrong = rows;
  wrong.at.weight = Tensor();
  CHECK_THROWS_AS(wrong.solve(1, 5), ShapeError);
  wrong.at = rows.at, wrong.at.gain = rows.at.bias;
  CHECK_THROWS_AS(wrong.solve(1, 5), ShapeError);
}

}  // namespace fprnn::tests
