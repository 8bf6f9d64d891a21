// Norms.
#include <fprnn/core/vector.h>

#include "op_table.h"

namespace fprnn::tests {

namespace {

void add_norm_shape(OpCases& cases, const Shape& shape) {
  const int64_t D = shape[-1];
  const Input x{shape, -2, 2, shape.rank() == 3}, weight{{D}, 0.5, 1.5}, bias{{D}};
  cases.push_back(
      {.op = "rms_norm",
       .inputs = {x, weight},
       .apply = [](const Vars& v) { return Vars{rms_norm(v[0], v[1], real(0.1))}; },
       .reference =
           [](const Arrays& v) { return Arrays{reference::rms_norm(v[0], v[1], real(0.1))}; }});
  // One number less its mean is 0 and so is its gradient, and so is that of its direction.
  const double floor = D == 1 ? 1 : 0;
  cases.push_back(
      {.op = "layer_norm",
       .inputs = {x, weight, bias},
       .apply = [](const Vars& v) { return Vars{layer_norm(v[0], v[1], v[2], real(0.1))}; },
       .reference =
           [](const Arrays& v) {
             return Arrays{reference::layer_norm(v[0], v[1], v[2], real(0.1))};
           },
       .gradient_floor = floor});
  cases.push_back(
      {.op = "gated_norm",
       .variation = "open",
       .inputs = {x, weight, bias},
       .apply = [](const Vars& v) { return Vars{gated_norm(v[0], {}, v[1], v[2], real(0.1))}; },
       .reference =
           [](const Arrays& v) {
             return Arrays{reference::layer_norm(v[0], v[1], v[2], real(0.1))};
           },
       .gradient_floor = floor});
  cases.push_back(
      {.op = "gated_norm",
       .inputs = {x, x, weight, bias},
       .apply = [](const Vars& v) { return Vars{gated_norm(v[0], v[1], v[2], v[3], real(0.1))}; },
       .reference =
           [](const Arrays& v) {
             const Array gated = reference::mul(v[0], reference::silu(v[1]));
             return Arrays{reference::layer_norm(gated, v[2], v[3], real(0.1))};
           },
       .gradient_floor = floor});
  cases.push_back(
      {.op = "gated_norm",
       .variation = "without bias",
       .inputs = {x, x, weight},
       .apply = [](const Vars& v) { return Vars{gated_norm(v[0], v[1], v[2], {}, real(0.1))}; },
       .reference =
           [](const Arrays& v) {
             const Array gated = reference::mul(v[0], reference::silu(v[1]));
             return Arrays{reference::rms_norm(gated, v[2], real(0.1))};
           }});
  cases.push_back(
      {.op = "any_norm",
       .inputs = {x, weight},
       .apply = [](const Vars& v) { return Vars{any_norm(v[0], v[1], {}, real(0.1))}; },
       .reference =
           [](const Arrays& v) { return Arrays{reference::rms_norm(v[0], v[1], real(0.1))}; }});
  for (const auto& [variation, low, high, eps] :
       {std::tuple{"", 0.3, 1.5, 1e-6}, {"shorter than eps", -0.1, 0.1, 8.0}})
    cases.push_back(
        {.op = "l2_normalize",
         .variation = variation,
         .inputs = {{shape, low, high, shape.rank() == 3}},
         .apply = [eps = eps](const Vars& v) { return Vars{l2_normalize(v[0], real(eps))}; },
         .reference =
             [eps = eps](const Arrays& v) {
               return Arrays{reference::l2_normalize(v[0], real(eps))};
             },
         .gradient_floor = eps < 1 ? floor : 0});
}

}  // namespace

void add_norms(OpCases& cases, ErrorCases& errors) {
  for (const Shape& shape :
       {Shape{1}, Shape{3, 1}, Shape{2, 3}, Shape{3, 5, 17}, Shape{33}, Shape{0, 3}, Shape{2, 127},
        Shape{3, 2, 65}, Shape{3, 65, 3}, Shape{1, 1025}, Shape{3, 67, 63}, Shape{3, 41, 200}})
    add_norm_shape(cases, shape);
  const auto shape_error = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ShapeError>(op, fragment, call));
  };
  const auto value_error = [&](const std::string& op, const std::string& fragment, auto call) {
    errors.push_back(refuses<ValueError>(op, fragment, call));
  };
  shape_error("layer_norm", "got (4) and (2, 3)", [](const Context& at) {
    layer_norm(tensor(at, {2, 3}), tensor(at, {4}), tensor(at, {3}), 1);
  });
  shape_error("layer_norm", "got (3, 1) and (2, 3)", [](const Context& at) {
    layer_norm(tensor(at, {2, 3}), tensor(at, {3}), tensor(at, {3, 1}), 1);
  });
  shape_error("layer_norm", "last axis to normalise, got ()", [](const Context& at) {
    layer_norm(tensor(at, {}), tensor(at, {}), tensor(at, {}), 1);
  });
  value_error("layer_norm", "eps must not be negative, got -1", [](const Context& at) {
    layer_norm(tensor(at, {2, 3}), tensor(at, {3}), tensor(at, {3}), -1);
  });
  const auto gate = [](const Shape& x, const Shape& z, const Shape& weight, const Shape& bias,
                       real eps) {
    return [=](const Context& at) {
      gated_norm(tensor(at, x), tensor(at, z), tensor(at, weight), tensor(at, bias), eps);
    };
  };
  shape_error("gated_norm", "got ()", gate({}, {}, {}, {}, 1));
  shape_error("gated_norm", "z must have x's shape, got (3) and (2, 3)",
              gate({2, 3}, {3}, {3}, {3}, 1));
  shape_error("gated_norm", "got (4), (3) and (2, 3)", gate({2, 3}, {2, 3}, {4}, {3}, 1));
  shape_error("gated_norm", "got (3), (3, 1) and (2, 3)", gate({2, 3}, {2, 3}, {3}, {3, 1}, 1));
  shape_error("gated_norm", "both or none", [](const Context& at) {
    gated_norm(tensor(at, {2, 3}), {}, tensor(at, {3}), tensor(at, {3}), real(1e-5),
               {.y = tensor(at, {2, 3}), .statistics = tensor(at, {2, 3})});
  });
  shape_error("gated_norm", "y before must have x's shape, got (2, 4) and (2, 3)",
              [](const Context& at) {
                gated_norm_beside(tensor(at, {2, 4}), tensor(at, {2, 3}), {}, tensor(at, {3}),
                                  tensor(at, {3}), real(1e-5));
              });
  value_error("gated_norm", "got -1", gate({2, 3}, {2, 3}, {3}, {3}, -1));
  shape_error("rms_norm", "got (2) and (2, 3)", [](const Context& at) {
    rms_norm(tensor(at, {2, 3}), tensor(at, {2}), 1);
  });
  value_error("rms_norm", "got -0.5", [](const Context& at) {
    rms_norm(tensor(at, {2, 3}), tensor(at, {3}), real(-0.5));
  });
  shape_error("l2_normalize", "got ()", [](const Context& at) { l2_normalize(tensor(at, {}), 1); });
  value_error("l2_normalize", "eps must be positive, got 0", [](const Context& at) {
    l2_normalize(tensor(at, {2, 3}), 0);
  });
}

}  // namespace fprnn::tests
