// The block of FP-Mamba-2 and FP-DeltaNet. What all fixed-point layers promise is in
// test_fp_layers.cpp.
#include <doctest/doctest.h>
#include <fprnn/models/mamba2.h>

#include "close.h"
#include "fp_cases.h"
#include "refused.h"

namespace fprnn::tests {

namespace {

FpMamba2Options small_mamba2() {
  FpMamba2Options options;
  options.d_model = kWidth, options.d_state = 4, options.headdim = 4;
  return options;
}
FpDeltaNetOptions small_delta_net() {
  FpDeltaNetOptions options;
  options.d_model = kWidth, options.heads = 2;
  return options;
}

template <class Layer, class Options>
void check_option(const std::string& rule, Options options,
                  const std::function<void(Options&)>& change) {
  const Context context = host_context();
  change(options);
  check_refused<ValueError>(rule, [&] {
    Root root;
    Rng rng;
    Layer(root, "layer", {context, rng}, options);
  });
}

}  // namespace

TEST_CASE("fp block: without mixing and dependence FP-Mamba-2 is Mamba-2") {
  const Context context = host_context();
  Root root;
  Rng rng{.seed = 4};
  const Init init{context, rng};
  const FpMamba2Options options = with(small_mamba2(), [](FpMamba2Options& o) {
    o.scale = 0, o.conv_width = 4;
    o.dependence = hidden_dependence_named("none");
    o.bc_norm = false, o.glu_in_loop = true;
  });
  Mamba2 plain(root, "plain", init, {.d_model = kWidth, .d_state = 4, .headdim = 4});
  FpMamba2 layer(root, "layer", init, options);
  for (const auto& [path, parameter] : plain.parameters())
    layer.parameter(path).value = parameter->value;
  const Tensor u = normal(context, {kBatch, kTime, kWidth}, 0, 1, rng);
  check_close("out", layer.forward(u).value().to_vector(), plain.forward(u).value().to_vector(),
              kSame);
}

TEST_CASE("fp block: sizes that do not divide, and what no cell here can do, are refused") {
  const auto mamba2 = [](const std::string& rule,
                         const std::function<void(FpMamba2Options&)>& change) {
    check_option<FpMamba2>(rule, small_mamba2(), change);
  };
  mamba2("headdim must divide", [](auto& o) { o.headdim = 3; });
  mamba2("ngroups must divide", [](auto& o) { o.ngroups = 3; });
  mamba2("", [](auto& o) { o.d_state = 0; });
  mamba2("", [](auto& o) { o.ngroups = o.d_state = kMaxSize; });
  mamba2("eps must be positive", [](auto& o) { o.eps = 0; });
  mamba2("the decay may not", [](auto& o) { o.dependence.lambda = true; });
  mamba2("scale must be", [](auto& o) { o.scale = 3; });
  const auto delta = [](const std::string& rule,
                        const std::function<void(FpDeltaNetOptions&)>& change) {
    check_option<FpDeltaNet>(rule, small_delta_net(), change);
  };
  delta("heads must divide expand", [](auto& o) { o.heads = 3; });
  delta("heads must divide d_model", [](auto& o) { o.heads = 16; });
  delta("", [](auto& o) { o.head_dim = -1; });
  delta("", [](auto& o) { o.head_dim = kMaxSize; });
  const Context context = test_context();
  for (const Case& entry : block_cases()) {
    Built built(context, entry);
    CHECK(!built.layer->has_states());
    const Tensor mask = full(context, {kBatch, kTime}, 1);
    CHECK_THROWS_AS(built.layer->forward(built.u, {.state_mask = mask}), ValueError);
    CHECK_THROWS_AS(built.layer->forward(zeros(context, {kBatch, kTime, 3})), ShapeError);
  }
}

}  // namespace fprnn::tests
