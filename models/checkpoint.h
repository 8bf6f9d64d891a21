// Checkpoints: a folder with model.safetensors, every parameter by its path;
// optimiser.safetensors, "mean.PATH" and "variance.PATH" of every parameter, and in the metadata
// the optimiser's steps; and state.json.
//
// Saving replaces a folder whole or not at all (core/file.h). Loading verifies everything before it
// changes anything, and what it restores is the same to the bit.
#pragma once

#include <fprnn/models/adamw.h>
#include <fprnn/models/checkpoint_state.h>

namespace fprnn {

// FileError: the system refuses, or there is a folder that is no checkpoint. ValueError: a state
// that cannot be written. After either the folder is what it was.
void save_checkpoint(const std::string& folder, Module& model, const AdamW& optimiser,
                     const CheckpointState& state);

// The state alone. FileError, FormatError: it cannot be read or breaks its form.
CheckpointState read_checkpoint_state(const std::string& folder);

// To go on training: the model's parameters, whose gradients are dropped, and the optimiser's
// state. With a null optimiser the weights alone, to evaluate them; only then may they be of the
// other real type.
// ValueError: the checkpoint's configuration is not the one expected (if any is), naming each key
// that differs with both values, or its real type is not this build's. FileError, FormatError: a
// file cannot be read, breaks its format, or does not hold exactly the tensors that are needed,
// with their names, shapes and types. MemoryError: there is no room for a second copy of them.
// After any of these model and optimiser are what they were.
CheckpointState load_checkpoint(const std::string& folder, Module& model, AdamW* optimiser,
                                const Configuration* expected = nullptr);

}  // namespace fprnn
