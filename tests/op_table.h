// One table of every public op: how to call it, what it should give, on which inputs, to which
// tolerance, and what it refuses. test_op_table.cpp runs the same tests over all of it; an op that
// is missing fails a test. OP=scan in the environment leaves the rows of scan alone.
#pragma once

#include <fprnn/ops/ops.h>

#include <functional>
#include <string>
#include <typeinfo>
#include <vector>

#include "reference.h"

namespace fprnn::tests {

using reference::Array;
using Vars = std::vector<Var>;
using Arrays = std::vector<Array>;

// A tensor drawn uniformly from [low, high).
struct Input {
  Shape shape;
  double low = -1, high = 1;
  bool batched = false;  // axis 0 is the batch, as it then is of every output
  bool differentiable = true;
};

// A reviewed constant for each build.
constexpr double tolerance(double in_double, double in_float) {
  return kDouble ? in_double : in_float;
}

struct OpCase {
  std::string op;              // its name in ops/*.h
  std::string variation = {};  // what sets this case apart from others with the same shapes
  std::vector<Input> inputs;
  std::function<Vars(const Vars&)> apply;
  std::function<Arrays(const Arrays&)> reference;

  // Normwise relative errors: of outputs, and of gradients against central differences.
  double forward_tolerance = tolerance(1e-12, 1e-5);
  double gradient_tolerance = tolerance(1e-9, 1e-4);
  double gradient_floor = 0;  // errors are relative to no less: for gradients that are exactly zero
};

struct ErrorCase {
  std::string op;
  std::string fragment;  // what the message must contain besides the tag
  std::function<void(const Context&)> call;
  const std::type_info* type;
  std::string tag;  // the op's name unless the rule belongs to something underneath
};

template <class E>
ErrorCase refuses(const std::string& op, const std::string& fragment,
                  std::function<void(const Context&)> call, const std::string& tag = "") {
  return {op, fragment, std::move(call), &typeid(E), tag.empty() ? op : tag};
}

// A tensor for what is refused before its numbers are read.
inline Tensor tensor(const Context& at, const Shape& shape) { return Tensor(at, shape); }

int64_t elements_of(const OpCase& entry);  // of all inputs

using OpCases = std::vector<OpCase>;
using ErrorCases = std::vector<ErrorCase>;

// The families, a file each.
void add_elementwise(OpCases& cases, ErrorCases& errors);
void add_reduce(OpCases& cases, ErrorCases& errors);
void add_layout(OpCases& cases, ErrorCases& errors);
void add_products(OpCases& cases, ErrorCases& errors);
void add_norms(OpCases& cases, ErrorCases& errors);
void add_recurrences(OpCases& cases, ErrorCases& errors);
void add_recurrent(OpCases& cases, ErrorCases& errors);
void add_act(OpCases& cases, ErrorCases& errors);
void add_pd_scans(OpCases& cases, ErrorCases& errors);
void add_ssd_scans(OpCases& cases, ErrorCases& errors);
void add_delta_rules(OpCases& cases, ErrorCases& errors);
void add_attention(OpCases& cases, ErrorCases& errors);
void add_xlstm(OpCases& cases, ErrorCases& errors);
void add_mixers(OpCases& cases, ErrorCases& errors);
void add_fp_mamba(OpCases& cases, ErrorCases& errors);
void add_cross_entropy(OpCases& cases, ErrorCases& errors);

struct OpTable {
  OpCases cases;
  ErrorCases errors;
};
const OpTable& op_table();
std::string name_of(const OpCase& entry);  // op, variation and shapes

}  // namespace fprnn::tests
