#include <fprnn/core/vector.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/op.h>
#include <fprnn/ops/reduce.h>

#include <algorithm>
#include <limits>

namespace fprnn {

namespace {

void check_linear(std::string_view op, const Var& x, const Var& weight) {
  require(x.shape().rank() >= 1 && weight.shape().rank() == 2 && x.size(-1) == weight.size(1), op,
          "x must be (..., K) and weight (N, K)", x.shape(), weight.shape());
}

// visit(i, those of the weight's rows that part i has, as a factor).
template <class Visit>
void for_parts(const Tensor& weight, const std::vector<int64_t>& rows, const Visit& visit) {
  const int64_t K = weight.size(1);
  const real* from = weight.data();
  for (size_t i = 0; i < rows.size(); ++i) {
    visit(i, Factor{from, rows[i], K});
    from += rows[i] * K;
  }
}

// Of the parts' cotangents: dx is the sum over parts, and each has its rows of dweight. Only a
// single part has a bias.
void give_gradients(const Tensor& x, const Tensor& weight, const std::vector<int64_t>& rows,
                    Backward& back) {
  const Context& context = x.context();
  const int64_t K = weight.size(1), M = x.shape().elements_before(-1);
  const Tensor sum = back.given(0), dx = sum.defined() ? sum : wanted_like(back, 0, x);
  const Tensor dweight = wanted_like(back, 1, weight);
  for_parts(weight, rows, [&](size_t i, const Factor& part) {
    const Factor dy{back.output(static_cast<int>(i)).data(), M, part.rows};
    if (dx.defined()) {
      Gemm product = contiguous_product(dy, part, dx.data());
      product.accumulate = i > 0 || sum.defined();
      launch(context, product);
    }
    if (dweight.defined())
      launch(context, contiguous_product({dy.data, M, part.rows, true}, {x.data(), M, K},
                                         dweight.data() + (part.data - weight.data())));
  });
  give_all(back, {sum.defined() ? Tensor() : dx, dweight});
}

// x times the weight's parts; those that are saved are not computed.
std::vector<Var> multiply_parts(std::string_view op, const Var& x, const Var& weight,
                                const Var& bias, const std::vector<int64_t>& rows,
                                std::vector<Tensor> saved) {
  const int64_t M = x.shape().elements_before(-1);
  saved.resize(rows.size());
  for_parts(weight.value(), rows, [&](size_t i, Factor part) {
    if (saved[i].defined()) return;
    saved[i] = Tensor(x.context(), x.shape().with(-1, part.rows));
    part.transposed = true;
    Gemm product = contiguous_product({x.data(), M, part.columns}, part, saved[i].data());
    product.bias = data_or_null(bias);
    launch(x.context(), product);
  });
  return record_all(op, {x, weight, bias}, std::move(saved),
                    [=, x = x.value(), weight = weight.value()](Backward& back) {
                      give_gradients(x, weight, rows, back);
                      if (back.wants(2))
                        back.accumulate(2, sum_to(back.output(), Shape{rows[0]}).value());
                    });
}

}  // namespace

Var linear(const Var& x, const Var& weight, const Var& bias, const Tensor& saved) {
  check_linear("linear", x, weight);
  const int64_t N = weight.size(0);
  require(fits(bias, Shape{N}), "linear", "bias must be (N)", bias.shape(), weight.shape());
  require(fits(saved, x.shape().with(-1, N)), "linear", "a saved result must be (..., N)",
          saved.shape(), x.shape(), weight.shape());
  require_together("linear", x, weight, bias, saved);
  return multiply_parts("linear", x, weight, bias, {N}, {saved}).front();
}

std::vector<Var> linear_parts(const Var& x, const Var& weight, const std::vector<int64_t>& rows) {
  check_linear("linear_parts", x, weight);
  int64_t left = weight.size(0);
  bool sound = !rows.empty();
  for (const int64_t count : rows) {
    sound &= count >= 0 && count <= left;
    left -= sound ? count : 0;
  }
  require<ValueError>(sound && left == 0, "linear_parts", "rows must add up to N; N, left over",
                      weight.size(0), left);
  require_together("linear_parts", x, weight);
  return multiply_parts("linear_parts", x, weight, {}, rows, {});
}

Var weight_norm(const Var& magnitude, const Var& direction) {
  require(direction.shape().rank() == 2 && magnitude.shape() == direction.shape().with(1, 1),
          "weight_norm", "direction must be (N, K) and magnitude (N, 1)", direction.shape(),
          magnitude.shape());
  require_together("weight_norm", direction, magnitude);
  return assemble_weights({{magnitude, direction}},
                          {{direction.size(1), {{.source = 0, .rows = direction.size(0)}}}})
      .front();
}

namespace {

void check_assembly(const std::vector<WeightSource>& sources,
                    const std::vector<WeightLayout>& outputs) {
  const std::string_view op = "assemble_weights";
  require<ValueError>(!sources.empty() && !outputs.empty(), op, "there must be sources and outputs",
                      sources.size(), outputs.size());
  for (const auto& [magnitude, direction] : sources) {
    require(direction.shape().rank() == 2 &&
                (!magnitude.defined() || magnitude.shape() == direction.shape().with(1, 1)),
            op, "direction must be (N, K) and magnitude (N, 1)", direction.shape(),
            magnitude.shape());
    require_together(op, sources.front().direction, magnitude, direction);
  }
  for (const auto& [columns, blocks] : outputs)
    for (const auto& [source, rows, row, column] : blocks) {
      require<ValueError>(source < static_cast<int>(sources.size()) && rows >= 0 && columns >= 0,
                          op, "a block must have a source: it, rows and columns", source, rows,
                          columns);
      if (source < 0) continue;
      const Shape& of = sources[source].direction.shape();
      require<ValueError>(
          row >= 0 && row + rows <= of[0] && column >= 0 && column + columns <= of[1], op,
          "a block must be within its source: row, column, rows, columns", row, column, rows,
          columns, of);
    }
}

// The same by the ops that there are.
std::vector<Var> assemble_by_parts(const std::vector<WeightSource>& sources,
                                   const std::vector<WeightLayout>& outputs) {
  std::vector<Var> weights, made;
  for (const auto& [magnitude, direction] : sources)
    weights.push_back(
        magnitude.defined()
            ? mul(l2_normalize(direction, std::numeric_limits<real>::min()), magnitude)
            : direction);
  const auto part = [](const Var& x, int axis, int64_t begin, int64_t size) {
    return size == x.size(axis) ? x : slice(x, axis, begin, begin + size);
  };
  for (const auto& [columns, blocks] : outputs) {
    std::vector<Var> parts{zeros(weights.front().context(), Shape{0, columns})};
    for (const auto& [source, rows, row, column] : blocks)
      parts.push_back(source < 0 ? Var(zeros(weights.front().context(), Shape{rows, columns}))
                                 : part(part(weights[source], 0, row, rows), 1, column, columns));
    made.push_back(parts.size() == 2 ? parts[1] : concat(parts, 0));
  }
  return made;
}

// The blocks of all outputs, whose elements begin at data(output).
template <class Data>
void set_blocks(AssembleWeights& weights, const std::vector<WeightLayout>& outputs,
                const Data& data) {
  weights.block_count = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    real* at = data(static_cast<int>(i));
    for (const auto& [source, rows, row, column] : outputs[i].blocks) {
      const int64_t columns = outputs[i].columns;
      weights.blocks[weights.block_count++] = {source, at, rows, columns, row, column};
      at += rows * columns;
    }
  }
}

}  // namespace

std::vector<Var> assemble_weights(const std::vector<WeightSource>& sources,
                                  const std::vector<WeightLayout>& outputs) {
  check_assembly(sources, outputs);
  const Context& context = sources.front().direction.context();
  size_t count = 0;
  for (const WeightLayout& output : outputs) count += output.blocks.size();
  AssembleWeightsForward forward{};
  AssembleWeights& weights = forward.weights;
  if (std::max(count, sources.size()) > AssembleWeights::kMost || !has_fused(context, forward))
    return assemble_by_parts(sources, outputs);

  std::vector<Var> inputs;
  for (const auto& [magnitude, direction] : sources) {
    weights.sources[weights.source_count++] = {.magnitude = data_or_null(magnitude),
                                               .direction = direction.data(),
                                               .N = direction.size(0),
                                               .K = direction.size(1)};
    inputs.insert(inputs.end(), {magnitude, direction});
  }
  std::vector<Tensor> made;
  for (const auto& [columns, blocks] : outputs) {
    int64_t rows = 0;
    for (const WeightBlock& block : blocks) rows += block.rows;
    made.emplace_back(context, Shape{rows, columns});
  }
  set_blocks(weights, outputs, [&](int i) { return made[i].data(); });
  launch_fused(context, forward);
  return record_all(
      "assemble_weights", inputs, std::move(made), [weights, inputs, outputs](Backward& back) {
        AssembleWeightsBackward backward{weights};
        std::vector<Tensor> gradients;
        for (const Var& input : inputs)
          gradients.push_back(wanted_like(back, static_cast<int>(gradients.size()), input));
        for (int i = 0; i < weights.source_count; ++i) {
          backward.weights.sources[i].dmagnitude = data_or_null(gradients[2 * i]);
          backward.weights.sources[i].ddirection = data_or_null(gradients[2 * i + 1]);
        }
        set_blocks(backward.weights, outputs, [&](int i) { return back.output(i).data(); });
        launch_fused(inputs[1].context(), backward);
        give_all(back, gradients);
      });
}

Var weight_norm_linear(const Var& x, const Var& magnitude, const Var& direction, const Var& bias) {
  return linear(x, weight_norm(magnitude, direction), bias);
}

}  // namespace fprnn
