#include <fprnn/core/check.h>
#include <fprnn/core/device.h>
#include <fprnn/core/processors.h>

#include <cstdlib>

namespace fprnn {

Isa best_isa() {
#if FPRNN_HAS_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::baseline;
}

std::string describe(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline";
}

Isa isa_named(std::string_view name) {
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (name != describe(isa)) continue;
    require<ValueError>(isa <= best_isa(), "context", "the machine must have the instruction set",
                        name);
    return isa;
  }
  throw ValueError("context", "instruction sets are baseline, avx2 and avx512",
                   std::array{describe(name)});
}

std::string describe(MatmulPrecision precision) {
  return precision == MatmulPrecision::fp32   ? "fp32"
         : precision == MatmulPrecision::tf32 ? "tf32"
                                              : "bf16";
}

MatmulPrecision matmul_precision_named(std::string_view name) {
  for (const auto precision : {MatmulPrecision::fp32, MatmulPrecision::tf32, MatmulPrecision::bf16})
    if (name == describe(precision)) return precision;
  throw ValueError("matmul_precision", "must be fp32, tf32 or bf16", std::array{describe(name)});
}

std::string_view name_of(DeviceKind device) { return device == DeviceKind::cuda ? "cuda" : "cpu"; }

bool gpu_is_there() { return find_gpu(); }

void refuse_gpu(std::string_view op) {
  throw DeviceError(op, "runs on the CPU alone: its tensors must be of a Context of the CPU");
}

inline namespace FPRNN_REAL {

namespace {

int checked_threads(const ContextOptions& options) {
  require<ValueError>(options.threads >= 0 && options.threads <= 1024, "context",
                      "threads must be 0 (all cores) to 1024", options.threads);
  require<ValueError>(options.byte_limit >= 0, "context", "the byte limit must not be negative",
                      options.byte_limit);
  require<ValueError>(options.shared_memory_limit >= 0, "context",
                      "the limit of shared memory must not be negative",
                      options.shared_memory_limit);
  require<ValueError>(options.isa <= best_isa(), "context",
                      "the machine must have the instruction set", options.isa);
  return options.threads > 0 ? options.threads : default_threads();
}

std::unique_ptr<ThreadPool> new_pool(int threads) {
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  return std::make_unique<ThreadPool>(threads, spin_time(policy != nullptr ? policy : ""));
}

}  // namespace

Context Context::cpu(const ContextOptions& options) {
  const int threads = checked_threads(options);
  return Context(std::shared_ptr<State>(new State{
      DeviceKind::cpu, threads, options.isa, nullptr,
      std::make_unique<HostMemory>(options.byte_limit, options.poison), new_pool(threads)}));
}

Context Context::cuda(const ContextOptions& options) {
  const int threads = checked_threads(options);
  const std::shared_ptr<CudaDevice> gpu = open_gpu(options);
  return Context(std::shared_ptr<State>(new State{DeviceKind::cuda, threads, options.isa, gpu,
                                                  gpu_memory(gpu, options), new_pool(threads)}));
}

std::string describe(const Context& context) {
  if (context.device() == DeviceKind::cuda) return describe_gpu(Cuda{context});
  return "cpu, " + std::to_string(context.threads()) + " threads, " + describe(context.isa());
}

Machine machine_of(const Context& context) {
  const bool gpu = context.device() == DeviceKind::cuda;
  return {.gpu = gpu ? describe(context) : "", .instruction_set = describe(context.isa())};
}

int64_t tokens_at_once(const Context& context) {
  return int64_t{1} << (context.device() == DeviceKind::cuda ? 18 : 16);
}

void Context::synchronise() const {
  if (device() == DeviceKind::cuda) fprnn::synchronise(Cuda{*this});
}

}  // namespace FPRNN_REAL

}  // namespace fprnn
