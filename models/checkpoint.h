// Checkpoints: a folder with model.safetensors, every parameter by its path;
// optimiser.safetensors, "mean.PATH" and "variance.PATH" of every parameter, and in the metadata
// the optimiser's steps; state.json; and carried.safetensors, where training carries the model's
// state from step to step: "LAYER.PLACE" of every tensor in it, none at the start of sequences.
//
// Saving replaces a folder whole or not at all (core/file.h). Loading verifies everything before it
// changes anything, and what it restores is the same to the bit.
#pragma once

#include <fprnn/models/adamw.h>
#include <fprnn/models/checkpoint_state.h>
#include <fprnn/models/sequence_model.h>

namespace fprnn {

// FileError: the system refuses, or there is a folder that is no checkpoint. ValueError: a state
// that cannot be written. After either the folder is what it was.
void save_checkpoint(const std::string& folder, Module& model, const AdamW& optimiser,
                     const CheckpointState& state, const SequenceModel::State* carried = nullptr);

// The state alone. FileError, FormatError: it cannot be read or breaks its form.
CheckpointState read_checkpoint_state(const std::string& folder);
// The shape of a parameter. FileError, FormatError: the model cannot be read, breaks the format, or
// has no such parameter.
Shape saved_shape(const std::string& folder, std::string_view parameter);

// To go on training: the model's parameters, whose gradients are dropped, and the optimiser's
// state. With a null optimiser the weights alone, to evaluate them; only then may they be of the
// other real type. carried: comes as a state of the shapes that are needed and goes as the one that
// was saved, which may be empty; null: it is not read.
// ValueError: the checkpoint's configuration is not the one expected (if any is), naming each key
// that differs with both values, or its real type is not this build's. FileError, FormatError: a
// file cannot be read, breaks its format, or does not hold exactly the tensors that are needed,
// with their names, shapes and types. MemoryError: there is no room for a second copy of them.
// After any of these model and optimiser are what they were.
CheckpointState load_checkpoint(const std::string& folder, Module& model, AdamW* optimiser,
                                const Configuration* expected = nullptr,
                                SequenceModel::State* carried = nullptr);

// The checkpoints of a run are RUN/checkpoints/step_NNNNNNNN; RUN/LATEST names the newest of them
// once it is whole.

// Saves a checkpoint as that of state.step, replacing one of the same step, lets LATEST name it,
// prunes, and returns its folder. ValueError: a step beyond eight digits, keep below 1. FileError
// and others of save_checkpoint: what LATEST names is whole, be it the old one or, where pruning
// failed, the new.
std::string save_run_checkpoint(const std::string& run, Module& model, const AdamW& optimiser,
                                const CheckpointState& state, int64_t keep,
                                const SequenceModel::State* carried = nullptr);

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
