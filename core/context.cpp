#include <fprnn/core/check.h>
#include <fprnn/core/context.h>
#include <omp.h>

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

inline namespace FPRNN_REAL {

Context Context::cpu(const ContextOptions& options) {
  require<ValueError>(options.threads >= 0 && options.threads <= 1024, "context",
                      "threads must be 0 (all cores) to 1024", options.threads);
  require<ValueError>(options.byte_limit >= 0, "context", "the byte limit must not be negative",
                      options.byte_limit);
  require<ValueError>(options.isa <= best_isa(), "context",
                      "the machine must have the instruction set", options.isa);
  const int threads = options.threads > 0 ? options.threads : omp_get_num_procs();
  return Context(std::shared_ptr<State>(
      new State{DeviceKind::cpu, threads, options.isa, {options.byte_limit, options.poison}}));
}

}  // namespace FPRNN_REAL

}  // namespace fprnn
