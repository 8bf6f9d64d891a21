// Where tensors live and kernels run: a device, its threads and its memory. There is no global
// state: every tensor knows its Context, and two Contexts share nothing.
#pragma once

#include <fprnn/core/memory.h>
#include <fprnn/core/real.h>
#include <fprnn/core/thread_pool.h>

#include <atomic>
#include <memory>
#include <string>

namespace fprnn {

// Instruction sets that the CPU kernels are compiled for (core/isa.h).
enum class Isa { baseline, avx2, avx512 };
Isa best_isa();  // the best that this machine and this build have
// "baseline", "avx2" or "avx512". ValueError: another name, or a set that this machine or build
// lacks.
Isa isa_named(std::string_view name);
std::string describe(Isa isa);

// Where a Context computes.
enum class DeviceKind { cpu, cuda };
std::string_view name_of(DeviceKind device);
bool gpu_is_there();  // there is a GPU, and this build can use it

// How a GPU rounds the factors of a matrix product: not at all, to 10 bits of mantissa, or to 7.
// Sums and all other arithmetic are in fp32.
enum class MatmulPrecision { fp32, tf32, bf16 };
MatmulPrecision matmul_precision_named(std::string_view name);  // ValueError: another name
std::string describe(MatmulPrecision precision);

struct ContextOptions {
  int threads = 0;         // 0: OMP_NUM_THREADS or the processors granted (core/processors.h)
  int64_t byte_limit = 0;  // of tensor memory, 0: none
  bool poison = false;     // fill fresh memory with NaN, to find reads of what was never written
  Isa isa = best_isa();    // results are reproducible for one instruction set
  // For a GPU only.
  MatmulPrecision matmul_precision = MatmulPrecision::fp32;
  bool synchronise = false;  // wait for each kernel, so that an error names the one that made it
  int64_t shared_memory_limit = 0;  // bytes of a block, 0: what the GPU has; 99 KiB at least
};

struct CudaDevice;  // cuda/device.cuh

inline namespace FPRNN_REAL {

// A handle: copies refer to the same device and memory. One thread at a time may use a Context and
// its tensors; different Contexts may be used at once. The Context starts helper threads when they
// are first needed. Waiting helpers sleep after some microseconds, or as OMP_WAIT_POLICY says. In a
// child of fork() a Context of the CPU continues with the calling thread alone.
class Context {
 public:
  static Context cpu(const ContextOptions& options = {});  // ValueError: threads or limit negative
  // On the first GPU. The CPU's options apply to work that is done on the host. DeviceError: there
  // is no GPU of compute capability 8.0 or more that this build has code for, or this build has no
  // CUDA backend. ValueError: as above, or a shared_memory_limit below 99 KiB.
  static Context cuda(const ContextOptions& options = {});

  DeviceKind device() const { return state_->device; }  // where it computes
  int threads() const { return state_->threads; }       // of the CPU, the calling one among them
  Isa isa() const { return state_->isa; }               // its CPU's, whatever the device
  Memory& memory() const { return *state_->memory; }    // that its tensors are in
  ThreadPool& pool() const { return *state_->pool; }    // of the CPU's threads
  CudaDevice& gpu() const { return *state_->gpu; }      // of a GPU's Context only
  // A new number at each call, which identifies what a tape records up to its backward.
  int64_t next_recording() const { return state_->recordings++; }

  // Waits until the device has finished its work. Throws what a kernel found wrong with values,
  // such as a token outside its table, unless an earlier call that reads numbers back has thrown
  // it.
  void synchronise() const;
  bool operator==(const Context& other) const { return state_ == other.state_; }

 private:
  struct State {
    DeviceKind device;
    int threads;
    Isa isa;
    std::shared_ptr<CudaDevice> gpu;  // null on the CPU
    std::unique_ptr<Memory> memory;
    std::unique_ptr<ThreadPool> pool;
    std::atomic<int64_t> recordings = 0;  // several threads may record at once
  };
  explicit Context(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

// "cpu, 2 threads, avx512" or "cuda, NVIDIA H200, products in fp32".
std::string describe(const Context& context);
// What the record of a result says of where it was computed.
struct Machine {
  std::string gpu = {};              // as describe() names it; empty on the CPU
  std::string instruction_set = {};  // of the CPU, by its Isa's name
  bool operator==(const Machine&) const = default;
};
Machine machine_of(const Context& context);
// How many tokens of an evaluation, computed at once, fill the device.
int64_t tokens_at_once(const Context& context);

}  // namespace FPRNN_REAL

}  // namespace fprnn
