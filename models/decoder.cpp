#include <fprnn/models/decoder.h>

namespace fprnn {

Decoder::Decoder(SequenceModel& model) : model_(model) {
  for (Layer* layer : model.layers()) {
    prepared_.push_back(layer->prepare());
    on_.push_back({.prepared = prepared_.back().get()});
  }
}

}  // namespace fprnn
