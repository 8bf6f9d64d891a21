// Where tensors live and work is done: a device, its threads and its memory. There is no global state:
// every tensor knows its Context, and two Contexts share nothing.
#pragma once

#include <fprnn/core/memory.h>
#include <fprnn/core/real.h>

#include <memory>
#include <string>

namespace fprnn {

// Instruction sets that the CPU kernels are compiled for (core/isa.h).
enum class Isa { baseline, avx2, avx512 };
Isa best_isa();  // the best that this machine and this build have
Isa isa_named(
    std::string_view name);  // "baseline", "avx2", "avx512"; ValueError on others or if absent
std::string describe(Isa isa);

enum class DeviceKind { cpu, cuda };

struct ContextOptions {
  int threads = 0;         // 0: one for each core this process may use
  int64_t byte_limit = 0;  // of tensor memory, 0: none
  bool poison = false;     // fill fresh memory with NaN, to find reads of what was never written
  Isa isa = best_isa();    // results are reproducible for one instruction set
};

inline namespace FPRNN_REAL {

// A handle: copies refer to the same device and memory. A Context and its tensors are to be used from
// one thread at a time; different Contexts may be used at once.
class Context {
 public:
  static Context cpu(const ContextOptions& options = {});  // ValueError: threads or limit negative

  DeviceKind device() const { return state_->device; }
  int threads() const { return state_->threads; }
  Isa isa() const { return state_->isa; }
  Memory& memory() const { return state_->memory; }
  bool operator==(const Context& other) const { return state_ == other.state_; }

 private:
  struct State {
    DeviceKind device;
    int threads;
    Isa isa;
    Memory memory;
  };
  explicit Context(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace FPRNN_REAL

}  // namespace fprnn
