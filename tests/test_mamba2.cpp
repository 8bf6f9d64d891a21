// Mamba-2's options: every one steps as it reads; sizes and states that do not fit are refused.
#include <doctest/doctest.h>
#include <fprnn/models/mamba2.h>
#include <fprnn/ops/layout.h>

#include "close.h"
#include "context.h"
#include "refused.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

// The layer in chunks of some steps, against the layer at once.
template <class Block>
void check_chunks(Block& block, const Var& u, const std::string& name) {
  const std::vector<real> whole = block.forward(u).value().to_vector();
  for (const int64_t length : {1, 3, 64}) {
    LayerState state;
    std::vector<Var> parts;
    for (int64_t t = 0; t < u.size(1); t += length)
      parts.push_back(block.forward(slice(u, 1, t, std::min(u.size(1), t + length)), state));
    check_close(name, concat(parts, 1).value().to_vector(), whole, kDouble ? 1e-12 : 1e-5);
  }
}

}  // namespace

TEST_CASE("mamba2: with each option it steps as it reads, long sequences in chunks too") {
  const Context context = Context::cpu(test_options());
  const Mamba2Options sizes{.d_model = 32, .d_state = 32, .headdim = 64};
  std::vector<Mamba2Options> all(8, sizes);
  all[1].headdim = 8;
  all[1].ngroups = 4;
  all[2].norm_before_gate = true;
  all[3].rmsnorm = false;
  all[4].channel_skip = true;
  all[5].dt_min = 0.4;
  all[5].dt_max = 0.7;
  all[6].negative_eigenvalues = true;
  all[7].conv_width = 1;
  for (size_t i = 0; i < all.size(); ++i) {
    Rng rng;
    Root root;
    Mamba2 block(root, "mamba2", {context, rng}, all[i]);
    scramble(block);
    check_chunks(block, random(context, {2, 150, 32}, 7), "options " + std::to_string(i));
  }
  Rng rng;
  Root root;
  Mamba mamba(root, "mamba", {context, rng}, {.d_model = 8, .negative_eigenvalues = true});
  scramble(mamba);
  check_chunks(mamba, random(context, {2, 70, 8}, 7), "mamba with negative eigenvalues");
}

TEST_CASE(
    "mamba2: sizes that do not divide, limits that are none, and another's state are refused") {
  const Context context = test_context();
  const auto refused = [&](const std::string& words, const Mamba2Options& options) {
    check_refused<ValueError>(words, [&] {
      Rng rng;
      Root root;
      Mamba2(root, "mamba2", {context, rng}, options);
    });
  };
  refused("headdim must divide expand times d_model: headdim and the product, got 64 and 16",
          {.d_model = 8});
  refused("ngroups must divide the number of heads, got 3 and 4",
          {.d_model = 8, .headdim = 4, .ngroups = 3});
  refused("sizes must be 1 to 2^20, got 0", {.d_state = 0});
  refused("dt_min <= dt_max, or dt_max 0, got 2 and 1", {.dt_min = 2, .dt_max = 1});
  refused("dt_min <= dt_max, or dt_max 0, got -1 and 0", {.dt_min = -1});

  Rng rng;
  Root root;
  Mamba2 block(root, "mamba2", {context, rng}, {.d_model = 8, .d_state = 4, .headdim = 4});
  LayerState state;
  block.forward(random(context, {2, 3, 8}, 7), state);
  check_refused<UsageError>("one of this layer and batch", [&] {
    block.forward(random(context, {3, 3, 8}, 7), state);
  });
  check_refused<ShapeError>("u must be (B, T, d), got (2, 3, 7)", [&] {
    block.forward(random(context, {2, 3, 7}, 7));
  });
}

TEST_CASE("mamba2: A_log, D, dt_bias, norms and biases do not decay") {
  Rng rng;
  Root root;
  Mamba2 block(root, "mamba2", {test_context(), rng}, {.d_model = 8, .headdim = 4});
  for (const NamedParameter& each : block.parameters()) {
    const bool weight =
        each.path.find("proj.weight") != std::string::npos || each.path == "conv1d.weight";
    CHECK_MESSAGE(each.parameter->decays == weight, each.path);
  }
}

}  // namespace fprnn::tests
