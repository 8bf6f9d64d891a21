#include <fprnn/core/vector.h>
#include <fprnn/models/decoder.h>
#include <fprnn/tasks/decode.h>

#include <algorithm>

namespace fprnn {

IntTensor decode(SequenceModel& model, const Context& context, const Batch& batch, int32_t end) {
  const Shape& shape = batch.tokens.shape();
  const int64_t B = shape[0], T = shape[1];
  const std::vector<int32_t> tokens = batch.tokens.to_vector();
  const std::vector<real> mask = batch.mask.to_vector();
  std::vector<int32_t> answers(tokens.size(), -1), read(B, end);
  std::vector<int64_t> first(B);
  for (int64_t b = 0; b < B; ++b)
    while (first[b] < T && mask[b * T + first[b]] == 0) ++first[b];
  std::vector<bool> done(B, false);
  Decoder decoder(model);
  SequenceModel::State state;
  for (int64_t t = 0; t < T && std::ranges::find(done, false) != done.end(); ++t) {
    for (int64_t b = 0; b < B; ++b)
      if (t <= first[b]) read[b] = tokens[b * T + t];
    const std::vector<int32_t> said =
        argmax(decoder.step(state, IntTensor(context, {B}, read))).to_vector();
    for (int64_t b = 0; b < B; ++b) {
      if (t < first[b] || done[b]) continue;
      answers[b * T + t] = said[b];
      done[b] = said[b] == end || said[b] < 0;
      read[b] = done[b] ? end : said[b];
    }
  }
  return {Context::cpu({.threads = context.threads()}), shape, answers};
}

}  // namespace fprnn
