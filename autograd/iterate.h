// An iterate of y <- f(y) and what an application of f says of it. Iterates are (B, T, D): B
// sequences that do not meet, and causal, f(y)_t depending on y_0 .. y_t. The residual at (b, t) is
//   max_d |f(y) - y| / (max_d |f(y)| + kResidualFloor)
// and that of a sequence is the largest of its positions.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/tensor.h>

#include <functional>

namespace fprnn {

// f(y), and its residual (B, T) if f has compared it with y.
template <class T>
struct Evaluated {
  T f;
  Tensor residual;
  Evaluated(T f, Tensor residual = {}) : f(std::move(f)), residual(std::move(residual)) {}
};
using Map = std::function<Evaluated<Tensor>(const Tensor& y)>;

// ShapeError: not (B, T, D).
void check_iterate(const Shape& shape);
// ValueError: a tolerance that is negative or not finite, a cap below 1.
void check_limits(real tolerance, int64_t max_iterations);

// The residuals (B, T) of y and f(y).
Tensor residuals_of(const Evaluated<Tensor>& of, const Tensor& y);
// (B, T) -> (B): the largest of each sequence, NaN where any is.
Tensor largest_of_sequences(const Tensor& residuals);
// Both in one, where f(y) is f.
Tensor largest_residuals(const Tensor& f, const Tensor& y);

int32_t as_count(int64_t count);  // at most 2^31 - 1

class Iterate {
 public:
  explicit Iterate(Tensor start) : B(start.size(0)), T(start.size(1)), y_(std::move(start)) {}

  const Tensor& y() const { return y_; }                // (B, T, D)
  const Tensor& residual() const { return residual_; }  // (B, T), of the last application
  void apply(const Map& f);                             // ShapeError: f changes the shape of y
  // y <- step f(y) + (1 - step) y with step (B, T). The memory of f's value becomes the next
  // iterate's.
  void update(const Tensor& step);

  const int64_t B, T;

 private:
  Tensor y_, f_, residual_;
};

struct RowResiduals {
  const real* f;   // (rows, D)
  const real* y;   // (rows, D)
  real* residual;  // (rows)
  int64_t rows, D;
};
// f <- step f + (1 - step) y, row by row: f becomes the next iterate.
struct DampedUpdate {
  const real* y;     // (rows, D)
  const real* step;  // (rows); 0: the row is y's, 1: it is f's already
  real* f;           // (rows, D)
  int64_t rows, D;
};
// What the residuals of an iteration mean for each sequence: which positions stay from now on, and
// the step of the others. A sequence that has settled changes no more.
struct SettleSequences {
  const real* residual;  // (B, T)
  int32_t* settled;      // (B): positions that stay
  int32_t* iterations;   // (B)
  int32_t* since;        // (B): iterations that were no better than the best
  real* best;            // (B): the best residual
  real* damping;         // (B)
  real* step;            // (B, T): of the update
  int64_t B, T;
  int32_t iteration;  // from 1 on
  real tolerance;
  bool backwards;
  int shrink_after;
};
// The largest of each row; NaN if one of it is, 0 if it is empty. None is negative.
struct LargestOfRows {
  const real* x;  // (rows, n)
  real* largest;  // (rows)
  int64_t rows, n;
};
void run(Cpu, const RowResiduals&);
void run(Cpu, const LargestOfRows&);
void run(Cpu, const DampedUpdate&);
void run(Cpu, const SettleSequences&);
void run(Cuda, const RowResiduals&);
void run(Cuda, const LargestOfRows&);
void run(Cuda, const DampedUpdate&);
void run(Cuda, const SettleSequences&);

}  // namespace fprnn
