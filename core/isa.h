// CPU kernels, compiled once per instruction set. A file X_kernel.cpp holds hot loops for one
// thread, in namespace FPRNN_ISA, which the build defines as baseline, avx2 or avx512. Its caller
// declares each kernel with FPRNN_KERNEL(signature) and picks one with FPRNN_SELECT(cpu, name).
#pragma once

#include <fprnn/core/device.h>

#if FPRNN_HAS_X86
#define FPRNN_KERNEL(...) \
  namespace baseline {    \
  __VA_ARGS__;            \
  }                       \
  namespace avx2 {        \
  __VA_ARGS__;            \
  }                       \
  namespace avx512 {      \
  __VA_ARGS__;            \
  }
#define FPRNN_SELECT(cpu, name)                                \
  ((cpu).context.isa() == ::fprnn::Isa::avx512 ? &avx512::name \
   : (cpu).context.isa() == ::fprnn::Isa::avx2 ? &avx2::name   \
                                               : &baseline::name)
#else
#define FPRNN_KERNEL(...) \
  namespace baseline {    \
  __VA_ARGS__;            \
  }
#define FPRNN_SELECT(cpu, name) (static_cast<void>(cpu), &baseline::name)
#endif
