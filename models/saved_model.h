// The model of a checkpoint, made from what the checkpoint says of it: for a program that does not
// know what was trained.
#pragma once

#include <fprnn/models/checkpoint.h>
#include <fprnn/models/model_settings.h>

namespace fprnn {

// With the saved weights, in the given Context. The checkpoint's configuration holds the settings of
// its model, as Settings::values gives those of Decides::model; solvers are set where it holds theirs
// too, and what else it holds, of a task or of training, is not read. The vocabulary is that of the
// saved embedding.
// UsageError, ValueError: the configuration lacks a setting of the model, or has a model that the
// registry does not have or a value that the model refuses. FileError, FormatError, MemoryError: see
// load_checkpoint.
std::unique_ptr<SequenceModel> load_model(const std::string& checkpoint, const Context& context,
                                          ModelRegistry models = built_in_models());

}  // namespace fprnn
