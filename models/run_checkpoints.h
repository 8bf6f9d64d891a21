// The checkpoints of a run: RUN/checkpoints/step_NNNNNNNN, and RUN/LATEST, which names the newest
// of them once it is whole.
#pragma once

#include <fprnn/models/checkpoint.h>

namespace fprnn {

// Saves a checkpoint as that of state.step, replacing one of the same step, lets LATEST name it,
// prunes, and returns its folder. ValueError: a step beyond eight digits, keep below 1. FileError
// and others of save_checkpoint: what LATEST names is whole, be it the old one or, where pruning
// failed, the new.
std::string save_run_checkpoint(const std::string& run, Module& model, const AdamW& optimiser,
                                const CheckpointState& state, int64_t keep);

// The folder of the newest checkpoint: the one that LATEST names or, where LATEST is missing, the
// one of the highest step; all that have their names are whole. FileError: the run has none, or
// LATEST's is gone. FormatError: LATEST is not of its form.
std::string latest_checkpoint(const std::string& run);
// Whether a run has LATEST or a checkpoint.
bool has_checkpoint(const std::string& run);

// Removes all checkpoints but `keep`, LATEST's and those with the highest steps, and what killed
// processes left.
void prune_checkpoints(const std::string& run, int64_t keep);

}  // namespace fprnn
