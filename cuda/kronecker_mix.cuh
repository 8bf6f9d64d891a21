// ops/fp_mamba_mix.h for a Kronecker product, a token a team.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/ops/fp_mamba_mix.h>

namespace fprnn::cuda {

// Whether a team's shared memory holds a token with its gradient.
bool mixes_in_teams(Cuda cuda, const FpMambaMixForward& args);
void mix_in_teams(Cuda cuda, const FpMambaMixForward& args);
void mix_in_teams(Cuda cuda, const FpMambaMixBackward& args);

}  // namespace fprnn::cuda
