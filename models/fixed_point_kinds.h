// FP-Mamba and the vector FP-RNN for the registry, with the settings that they share.
#pragma once

#include <fprnn/models/registry.h>

namespace fprnn {

ModelKind fp_mamba_kind();
ModelKind fp_rnn_kind();

}  // namespace fprnn
