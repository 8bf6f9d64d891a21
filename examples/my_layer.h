// A layer: the fixed point of a BlockMixer and MyCell, and its row for the registry of models.
//   x = leaky_relu(W_x u),  (d, e) = sigmoid(W_d u),  p_t = W_u u_t + W_y y_{t-1},  out = W_o y
#pragma once

#include <fprnn/models/registry.h>

#include "block_mixer.h"
#include "my_cell.h"

namespace extending {

struct MyLayerOptions {
  int64_t d_model = 64;
  fprnn::real scale = 1;
  fprnn::real leak = static_cast<fprnn::real>(0.1);
  fprnn::SolverOptions solver = {};
};

class MyLayer : public fprnn::FixedPointLayer {
 public:
  // ValueError: what BlockMixer and check(SolverOptions) refuse.
  MyLayer(fprnn::Module& parent, std::string name, const fprnn::Init& init,
          const MyLayerOptions& options);
  bool has_states() const override { return false; }  // that state_dropout may drop

 protected:
  fprnn::FixedPointMap map() const override { return {mixer_, cell_, 1}; }  // without a norm
  fprnn::Var output(const fprnn::Var& u, fprnn::FixedPointState& state,
                    const fprnn::Conditions& on) override;

 private:
  MyLayerOptions options_;
  BlockMixer mixer_;
  MyCell cell_;
  fprnn::Linear x_, decay_, share_u_, share_y_, out_;
};

fprnn::ModelKind my_layer_kind();  // "my-layer", with the settings block_scale and leak

}  // namespace extending
