#include <fprnn/core/vector.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/reduce.h>

#include <algorithm>
#include <limits>

namespace fprnn {

namespace {

// y of these, which is or becomes the product.
Var record_linear(const Var& x, const Var& weight, const Var& bias, const Tensor& y) {
  const int64_t N = weight.size(0), K = weight.size(1), M = x.shape().elements_before(-1);
  return record(
      "linear", {x, weight, bias}, y, [=, x = x.value(), weight = weight.value()](Backward& back) {
        const Tensor dy = back.output().reshaped(Shape{M, N});
        if (back.wants(0)) {
          const Tensor sum = back.given(0),
                       dx = sum.defined() ? sum : Tensor(x.context(), x.shape());
          launch(x.context(), Gemm{.a = dy.data(),
                                   .b = weight.data(),
                                   .c = dx.data(),
                                   .M = M,
                                   .N = K,
                                   .K = N,
                                   .lda = N,
                                   .ldb = K,
                                   .ldc = K,
                                   .accumulate = sum.defined()});
          if (!sum.defined()) back.give(0, dx);
        }
        if (back.wants(1))
          back.give(1, matmul(dy, x.reshaped(Shape{M, K}), {.transpose_a = true}).value());
        if (back.wants(2)) back.give(2, sum_to(dy, Shape{N}).value());
      });
}

}  // namespace

Var linear_known(const Var& x, const Var& weight, const Tensor& y) {
  require(x.shape().rank() >= 1 && weight.shape().rank() == 2 && x.size(-1) == weight.size(1) &&
              y.shape() == x.shape().with(-1, weight.size(0)),
          "linear_known", "x must be (..., K), weight (N, K) and y (..., N)", x.shape(),
          weight.shape(), y.shape());
  require_together("linear_known", x, weight, y);
  return record_linear(x, weight, {}, y);
}

Var linear(const Var& x, const Var& weight, const Var& bias) {
  require(x.shape().rank() >= 1 && weight.shape().rank() == 2 && x.size(-1) == weight.size(1),
          "linear", "x must be (..., K) and weight (N, K)", x.shape(), weight.shape());
  const int64_t N = weight.size(0), K = weight.size(1), M = x.shape().elements_before(-1);
  require(!bias.defined() || bias.shape() == Shape{N}, "linear", "bias must be (N)", bias.shape(),
          weight.shape());
  require_together("linear", x, weight, bias);
  const Tensor y(x.context(), x.shape().with(-1, N));
  launch(x.context(), Gemm{.a = x.data(),
                           .b = weight.data(),
                           .bias = bias.defined() ? bias.data() : nullptr,
                           .c = y.data(),
                           .M = M,
                           .N = N,
                           .K = K,
                           .lda = K,
                           .ldb = K,
                           .ldc = N,
                           .transpose_b = true});
  return record_linear(x, weight, bias, y);
}

namespace {

// Of linear_parts: each part has its rows of weight, and dx is the sum over parts.
void give_gradients(const Tensor& x, const Tensor& weight, const std::vector<int64_t>& rows,
                    Backward& back) {
  const Context& context = x.context();
  const int64_t K = weight.size(1), M = x.shape().elements_before(-1);
  const Tensor sum = back.given(0);
  const Tensor dx = sum.defined() ? sum : back.wants(0) ? Tensor(context, x.shape()) : Tensor();
  const Tensor dweight = back.wants(1) ? Tensor(context, weight.shape()) : Tensor();
  int64_t row = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Tensor& dy = back.output(static_cast<int>(i));
    if (back.wants(0))
      launch(context, Gemm{.a = dy.data(),
                           .b = weight.data() + row * K,
                           .c = dx.data(),
                           .M = M,
                           .N = K,
                           .K = rows[i],
                           .lda = rows[i],
                           .ldb = K,
                           .ldc = K,
                           .accumulate = i > 0 || sum.defined()});
    if (back.wants(1))
      launch(context, Gemm{.a = dy.data(),
                           .b = x.data(),
                           .c = dweight.data() + row * K,
                           .M = rows[i],
                           .N = K,
                           .K = M,
                           .lda = rows[i],
                           .ldb = K,
                           .ldc = K,
                           .transpose_a = true});
    row += rows[i];
  }
  if (dx.defined() && !sum.defined()) back.give(0, dx);
  if (back.wants(1)) back.give(1, dweight);
}

}  // namespace

std::vector<Var> linear_parts(const Var& x, const Var& weight, const std::vector<int64_t>& rows) {
  const std::string_view op = "linear_parts";
  require(x.shape().rank() >= 1 && weight.shape().rank() == 2 && x.size(-1) == weight.size(1), op,
          "x must be (..., K) and weight (N, K)", x.shape(), weight.shape());
  const int64_t N = weight.size(0), K = weight.size(1), M = x.shape().elements_before(-1);
  int64_t left = N;
  bool sound = !rows.empty();
  for (const int64_t count : rows) {
    sound &= count >= 0 && count <= left;
    left -= sound ? count : 0;
  }
  require<ValueError>(sound && left == 0, op, "rows must add up to N; N, left over", N, left);
  require_together(op, x, weight);
  std::vector<Tensor> parts;
  const real* from = weight.data();
  for (const int64_t count : rows) {
    parts.emplace_back(x.context(), x.shape().with(-1, count));
    launch(x.context(), Gemm{.a = x.data(),
                             .b = from,
                             .c = parts.back().data(),
                             .M = M,
                             .N = count,
                             .K = K,
                             .lda = K,
                             .ldb = K,
                             .ldc = count,
                             .transpose_b = true});
    from += count * K;
  }
  return record_all(op, {x, weight}, std::move(parts),
                    [=, x = x.value(), weight = weight.value()](Backward& back) {
                      give_gradients(x, weight, rows, back);
                    });
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
  std::vector<Tensor> kept, made;
  for (const auto& [magnitude, direction] : sources) {
    weights.sources[weights.source_count++] = {.magnitude = data_or_null(magnitude),
                                               .direction = direction.data(),
                                               .dmagnitude = nullptr,
                                               .ddirection = nullptr,
                                               .N = direction.size(0),
                                               .K = direction.size(1)};
    for (const Var& input : {magnitude, direction}) {
      inputs.push_back(input);
      kept.push_back(input.defined() ? input.value() : Tensor());
    }
  }
  for (const auto& [columns, blocks] : outputs) {
    int64_t rows = 0;
    for (const WeightBlock& block : blocks) rows += block.rows;
    made.emplace_back(context, Shape{rows, columns});
    real* at = made.back().data();
    for (const WeightBlock& block : blocks) {
      weights.blocks[weights.block_count++] = {.source = block.source,
                                               .at = at,
                                               .rows = block.rows,
                                               .columns = columns,
                                               .row = block.row,
                                               .column = block.column};
      at += block.rows * columns;
    }
  }
  launch_fused(context, forward);
  return record_all("assemble_weights", inputs, std::move(made),
                    [weights, kept, outputs, context = context](Backward& back) {
                      AssembleWeightsBackward backward{weights};
                      auto& [sources, blocks, source_count, block_count] = backward.weights;
                      std::vector<Tensor> gradients(kept.size());
                      for (int i = 0; i < 2 * source_count; ++i)
                        if (back.wants(i)) gradients[i] = Tensor(context, kept[i].shape());
                      const auto place = [](const Tensor& x) {
                        return x.defined() ? x.data() : nullptr;
                      };
                      for (int i = 0; i < source_count; ++i) {
                        sources[i].dmagnitude = place(gradients[2 * i]);
                        sources[i].ddirection = place(gradients[2 * i + 1]);
                      }
                      int next = 0;
                      for (size_t i = 0; i < outputs.size(); ++i) {
                        real* at = back.output(static_cast<int>(i)).data();
                        for (const WeightBlock& block : outputs[i].blocks) {
                          blocks[next++].at = at;
                          at += block.rows * outputs[i].columns;
                        }
                      }
                      launch_fused(context, backward);
                      for (size_t i = 0; i < gradients.size(); ++i)
                        if (gradients[i].defined()) back.give(static_cast<int>(i), gradients[i]);
                    });
}

Var weight_norm_linear(const Var& x, const Var& magnitude, const Var& direction, const Var& bias) {
  return linear(x, weight_norm(magnitude, direction), bias);
}

}  // namespace fprnn
