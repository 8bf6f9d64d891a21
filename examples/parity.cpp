// A task with its own executable: say after each bit whether the ones so far are odd.
#include <fprnn/core/vector.h>
#include <fprnn/tasks/run/program.h>

#include "my_layer.h"

namespace {

using namespace fprnn;

// Bits that are ones with a probability of ones / 16.
class Parity : public Task {
 public:
  explicit Parity(int64_t ones) : ones_(ones) {}
  int64_t vocabulary() const override { return 2; }
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override {
    check_batch("parity", B, length);
    std::vector<int32_t> bits = host_vector<int32_t>({B, length}), parities = bits;
    for (int64_t b = 0; b < B; ++b) {
      int32_t parity = 0;
      for (int64_t i = b * length; i < (b + 1) * length; ++i) {
        bits[i] = static_cast<int64_t>(rng.below(i, 16)) < ones_ ? 1 : 0;
        parities[i] = parity ^= bits[i];
      }
    }
    return {.tokens = IntTensor(context, {B, length}, bits),
            .targets = IntTensor(context, {B, length}, parities),
            .mask = full(context, {B, length}, 1)};
  }

 private:
  int64_t ones_;
};

class ParityProgram : public TaskProgram {
 public:
  std::string name() const override { return "parity"; }
  std::string about() const override { return "Trains a sequence model on the parity of bits."; }
  KeyTexts defaults() const override { return {{"model", "my-layer"}, {"gradient", "exact"}}; }
  void add_to(Settings& settings) override {
    settings.title("Task", Decides::model);
    settings.add("ones", ones_, "How many bits in 16 are ones, 1 to 15");
  }
  std::unique_ptr<Task> task() const override {
    require<ValueError>(ones_ >= 1 && ones_ <= 15, "parity", "ones must be 1 to 15", ones_);
    return std::make_unique<Parity>(ones_);
  }

 private:
  int64_t ones_ = 8;
};

}  // namespace

int main(int argc, char** argv) {
  ModelRegistry models = built_in_models();
  models.add(extending::my_layer_kind());
  ParityProgram program;
  return run_program(argc, argv, program, models);
}
