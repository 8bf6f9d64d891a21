// Linear maps,
//   y = x W^T + bias
// and W in the weight-normalised form of Salimans and Kingma (arXiv 1602.07868), whose rows have a
// direction and a magnitude of their own. Cost: one matrix product forward, two backward; keeps x
// and the weight.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// x (..., K), weight (N, K), optional bias (N) -> (..., N). ShapeError: sizes do not fit.
// saved: the result (..., N), or those rows of it that are used, where it is computed already.
Var linear(const Var& x, const Var& weight, const Var& bias = {}, const Tensor& saved = {});

// x (..., K), weight (N, K) -> linear with each group of these numbers of consecutive rows of the
// weight, as separate tensors (..., rows). ValueError: rows that do not add up to N.
std::vector<Var> linear_parts(const Var& x, const Var& weight, const std::vector<int64_t>& rows);

// magnitude (N, 1), direction (N, K) -> the weight (N, K) with the rows
//   W_n = magnitude_n direction_n / |direction_n|
Var weight_norm(const Var& magnitude, const Var& direction);

// linear(x, weight_norm(magnitude, direction), bias).
Var weight_norm_linear(const Var& x, const Var& magnitude, const Var& direction,
                       const Var& bias = {});

// Weights assembled from rows of others; on a GPU all of them by one kernel each way. A source is
// weight_norm(magnitude, direction), or the direction itself where there is no magnitude. An output
// (sum of its blocks' rows, columns) stacks blocks: each has rows of a source, from a row and a
// column on, or zeros where the source is -1.
// ShapeError: as weight_norm. ValueError: no sources or outputs, a block that its source does not
// have.
struct WeightSource {
  Var magnitude;  // (N, 1) or undefined
  Var direction;  // (N, K)
};
struct WeightBlock {
  int source;  // its place among the sources; -1: zeros
  int64_t rows;
  int64_t row = 0, column = 0;  // where it begins
};
struct WeightLayout {
  int64_t columns;  // of the output
  std::vector<WeightBlock> blocks;
};
std::vector<Var> assemble_weights(const std::vector<WeightSource>& sources,
                                  const std::vector<WeightLayout>& outputs);

struct AssembleWeights {
  static constexpr int kMost = 16;
  struct Source {
    const real* magnitude;       // (N) or null
    const real* direction;       // (N, K)
    real* dmagnitude = nullptr;  // the gradients; null if not wanted
    real* ddirection = nullptr;
    int64_t N, K;
  };
  // The blocks of all outputs, in order. In backward `at` holds the output's cotangent.
  struct Block {
    int source;
    real* at;  // (rows, columns)
    int64_t rows, columns, row, column;
  };
  Source sources[kMost];
  Block blocks[kMost];
  int source_count, block_count;
};
struct AssembleWeightsForward {
  AssembleWeights weights;
};
struct AssembleWeightsBackward {
  AssembleWeights weights;
};
bool supports(Cuda, const AssembleWeightsForward&);
void run(Cuda, const AssembleWeightsForward&);
void run(Cuda, const AssembleWeightsBackward&);

}  // namespace fprnn
