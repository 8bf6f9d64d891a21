// Recall: rows that show things among others and then ask for them, so that an answer needs memory
// and no arithmetic. Two tasks; k is the number of things that a row asks for.
//
// Multi-query associative recall (MQAR), as in Zoology (Arora et al., 2023), of T tokens:
//   tokens   k_1 v_1 k_2 v_2 .. , then (T - 2 k) / 2 slots of two tokens
//            Keys are distinct, of 1 .. V/2 - 1; values are distinct, of V/2 .. V - 1. Each key stands
//            at the head of a slot of its own: k_1 draws its slot first, and slot i = 1, 2, .. has the
//            probability i^(power - 1) / sum of those of the slots that are left. All other places
//            after the pairs, an odd last one too, hold filler: 0, or any token at random.
//   targets  v_i where a slot asks for k_i; 0 elsewhere
//
// Selective copying, as in Mamba's paper (Gu and Dao, 2023), of T places:
//   tokens   k data tokens of 1 .. V - 2 at distinct places of T, the others 0, which is noise; then
//            k times V - 1, which asks; then 0 where another row of the batch asks for more
//            All sets of places are equally likely: noise may follow the last data token.
//   targets  the data tokens in their order where V - 1 asks; 0 elsewhere
//
// The loss and the metrics read the k positions that ask, and no other.
#pragma once

#include <fprnn/tasks/draws.h>
#include <fprnn/tasks/task.h>

#include <map>
#include <span>

namespace fprnn {

// How many keys a row has, by its length: "4", or "64/4,64/8,256/32", each LENGTH/KEYS or KEYS, which
// stands for 1/KEYS. A length has what is listed of the longest one that is not above it; where
// several numbers are, rows take them by turns. ValueError: another text, or above 64 numbers.
using KeysByLength = std::map<int64_t, std::vector<int64_t>>;
KeysByLength keys_by_length(std::string_view text);

class Recall : public Task {
 public:
  int64_t vocabulary() const override { return vocabulary_; }
  // By turns of the rows of this length. ValueError: there are none, or too many for the length.
  const std::vector<int64_t>& keys_at(int64_t length) const;
  // ValueError: as keys_at, or no batch.
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override;
  void check_training(int64_t length) const override { keys_at(length); }
  void check_examination(int64_t length) const override { keys_at(length); }
  // recalled, the share of a row's keys that are right, averaged over rows; whole_sequences; where a
  // length has several numbers of keys, recalled_<k> of the rows with k keys, for each k.
  std::vector<Metric> metrics() const override;

 protected:
  // A row of a batch, zero before it is written.
  struct Row {
    std::span<int32_t> tokens, targets;
    std::span<real> mask;  // weights in the loss

    // Writes a token that asks, and its answer as a target that counts.
    void ask(int64_t place, int32_t token, int32_t answer) const;
  };
  Recall(int64_t vocabulary, KeysByLength keys) : vocabulary_(vocabulary), keys_(std::move(keys)) {}

 private:
  virtual void check(int64_t length, int64_t k) const = 0;
  virtual int64_t tokens_of(int64_t length, int64_t most_keys) const = 0;
  virtual void write(const Row& row, int64_t length, int64_t k, Draws draws) const = 0;

  int64_t vocabulary_;
  KeysByLength keys_;
};

// Multi-query associative recall.
class Mqar : public Recall {
 public:
  // What stands where nothing is shown or asked.
  enum class Filler { zeros, random };
  struct Options {
    int64_t vocabulary = 64;
    KeysByLength keys = {{1, {4}}};  // 4 k <= T
    Filler filler = Filler::zeros;
    double power = 0.01;  // 1: all slots alike; the smaller, the sooner a key is asked for
  };
  // ValueError: a vocabulary outside of 4 to 2^20 or with fewer keys than a row needs, or a power
  // outside of 0 to 8.
  explicit Mqar(const Options& options);

 private:
  void check(int64_t length, int64_t k) const override;
  int64_t tokens_of(int64_t length, int64_t) const override { return length; }
  void write(const Row& row, int64_t length, int64_t k, Draws draws) const override;

  Filler filler_;
  double power_;
};

// Selective copying.
class SelectiveCopying : public Recall {
 public:
  // k <= T. ValueError: a vocabulary outside of 3 to 2^20.
  SelectiveCopying(int64_t vocabulary, KeysByLength keys);

 private:
  void check(int64_t length, int64_t k) const override;
  int64_t tokens_of(int64_t length, int64_t most_keys) const override { return length + most_keys; }
  void write(const Row& row, int64_t length, int64_t k, Draws draws) const override;
};

}  // namespace fprnn
