# The library. Sources are listed in reading order; a folder uses only those above it. What lies beside X.cpp under
# its name goes with it: X_kernel.cpp, hot loops compiled once for each instruction set (core/isa.h), and in
# a build with CUDA cuda/X.cu.
set(FPRNN_FOLDERS core autograd ops models)
set(FPRNN_SOURCES
    core/text.cpp core/check.cpp core/fault.cpp core/shape.cpp core/memory.cpp core/thread_pool.cpp core/processors.cpp
    core/context.cpp core/tensor.cpp core/rng.cpp
    core/build_info.cpp core/vector.cpp core/file.cpp core/mapped_file.cpp
    core/settings.cpp
    autograd/tape.cpp autograd/iterate.cpp autograd/picard.cpp autograd/gradient_rule.cpp
    autograd/solve_report.cpp autograd/fixed_point.cpp
    ops/elementwise.cpp ops/reduce.cpp ops/layout.cpp ops/gemm.cpp ops/matmul.cpp ops/norm.cpp
    ops/linear.cpp ops/block_linear.cpp ops/conv.cpp ops/scan.cpp ops/selective_scan.cpp ops/ssd_scan.cpp ops/ssd_chunks.cpp ops/delta_rule.cpp ops/low_rank.cpp
    ops/gate_weights.cpp ops/recurrent.cpp ops/attention.cpp ops/mlstm.cpp ops/slstm.cpp ops/act.cpp ops/pd_scan.cpp
    ops/gated_norm.cpp
    ops/kronecker.cpp ops/outer.cpp ops/fp_mamba_mix.cpp ops/fp_mamba_gate.cpp
    ops/fp_mamba_solve.cpp ops/kronecker_solve.cpp ops/krylov_solve.cpp ops/cross_entropy.cpp ops/adamw_update.cpp
    models/module.cpp models/layer.cpp models/modules.cpp
    models/mixer.cpp models/mamba.cpp
    models/recurrent.cpp models/mamba2.cpp models/delta_net.cpp models/causal_attention.cpp models/transformer.cpp models/xlstm_modules.cpp models/mlstm.cpp models/slstm.cpp models/act.cpp models/pd_ssm.cpp
    models/cells/gated.cpp models/cells/gated_fused.cpp models/cells/selective.cpp models/cells/selective_fused.cpp models/cells/mamba_forms.cpp
    models/cells/ssd.cpp models/cells/ssd_fused.cpp models/cells/delta.cpp models/cells/delta_fused.cpp
    models/fixed_point_map.cpp
    models/solvers/solver.cpp models/solvers/patience.cpp models/solvers/sequential.cpp
    models/solvers/parallel.cpp models/solvers/automatic.cpp
    models/fixed_point_layer.cpp models/fp_mamba.cpp models/fp_rnn.cpp
    models/fp_block.cpp models/fp_mamba2.cpp models/fp_delta_net.cpp models/deq.cpp models/sequence_model.cpp models/decoder.cpp models/adamw.cpp
    models/registry.cpp models/model_settings.cpp models/fixed_point_kinds.cpp
    models/safetensors.cpp models/safetensors_writer.cpp models/checkpoint_state.cpp
    models/checkpoint.cpp models/saved_model.cpp
)
set(FPRNN_KERNELS "")
set(FPRNN_CUDA_SOURCES "")
foreach(source IN LISTS FPRNN_SOURCES)
  cmake_path(GET source PARENT_PATH folder)
  cmake_path(GET source STEM name)
  if(EXISTS ${PROJECT_SOURCE_DIR}/${folder}/${name}_kernel.cpp)
    list(APPEND FPRNN_KERNELS ${folder}/${name}_kernel.cpp)
  endif()
  if(EXISTS ${PROJECT_SOURCE_DIR}/cuda/${name}.cu)
    list(APPEND FPRNN_CUDA_SOURCES cuda/${name}.cu)
  endif()
endforeach()
if(NOT FPRNN_CUDA)
  list(APPEND FPRNN_SOURCES core/no_gpu.cpp)
endif()

if(FPRNN_EVERY_ISA AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(FPRNN_X86_VALUE 1)
  set(isas baseline avx2 avx512)
else()
  set(FPRNN_X86_VALUE 0)
  set(isas baseline)
endif()
set(flags_baseline "")
set(flags_avx2 -mavx2 -mfma)
set(flags_avx512 -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mprefer-vector-width=512)

# Headers are <fprnn/folder/file.h> everywhere: links here, copies once installed.
set(FPRNN_INCLUDE ${PROJECT_BINARY_DIR}/include)
file(MAKE_DIRECTORY ${FPRNN_INCLUDE}/fprnn)
foreach(folder IN LISTS FPRNN_FOLDERS ITEMS tasks cuda)
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${folder} ${FPRNN_INCLUDE}/fprnn/${folder} SYMBOLIC)
endforeach()
if(FPRNN_DOUBLE)
  set(FPRNN_DOUBLE_VALUE 1)
else()
  set(FPRNN_DOUBLE_VALUE 0)
endif()
if(FPRNN_CUDA)
  set(FPRNN_CUDA_VALUE 1)
else()
  set(FPRNN_CUDA_VALUE 0)
endif()
configure_file(cmake/config.h.in ${FPRNN_INCLUDE}/fprnn/config.h @ONLY)

# How our own files are compiled; consumers inherit none of it but C++20 and the include folder.
add_library(fprnn_flags INTERFACE)
target_compile_options(fprnn_flags INTERFACE
  -Wall -Wextra -Wno-psabi $<$<BOOL:${FPRNN_WERROR}>:-Werror> -fno-math-errno -fno-trapping-math)
if(FPRNN_SANITIZE)
  target_compile_options(fprnn_flags INTERFACE
    -fsanitize=${FPRNN_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(fprnn_flags INTERFACE -fsanitize=${FPRNN_SANITIZE})
endif()

add_library(fprnn STATIC ${FPRNN_SOURCES})
add_library(fprnn::fprnn ALIAS fprnn)
target_compile_features(fprnn PUBLIC cxx_std_20)
set_target_properties(fprnn PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
target_include_directories(fprnn PUBLIC $<BUILD_INTERFACE:${FPRNN_INCLUDE}>)
target_link_libraries(fprnn
  PRIVATE $<BUILD_INTERFACE:fprnn_flags> $<BUILD_INTERFACE:${fmt_of_library}>
          $<BUILD_INTERFACE:nlohmann_json::nlohmann_json> OpenMP::OpenMP_CXX)
fprnn_precompile(fprnn <algorithm> <cmath> <fprnn/core/vector.h> <fprnn/models/layer.h> <fprnn/ops/op.h>)

# Compiles kernel files once for each instruction set, into the target.
function(fprnn_kernels target)
  foreach(isa IN LISTS isas)
    set(objects ${target}_${isa})
    add_library(${objects} OBJECT ${ARGN})
    target_compile_features(${objects} PRIVATE cxx_std_20)
    target_compile_definitions(${objects} PRIVATE FPRNN_ISA=${isa})
    target_compile_options(${objects} PRIVATE ${flags_${isa}})
    set_target_properties(${objects} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
    target_include_directories(${objects} PRIVATE ${FPRNN_INCLUDE})
    target_link_libraries(${objects} PRIVATE fprnn_flags)
    # Multiply-adds are fused across statements too, as GCC does by itself and clang does not.
    target_compile_options(${objects} PRIVATE -ffp-contract=fast)
    # From GCC 13 on chains of them are not, in some tiles of a product and not in others.
    target_compile_options(${objects} PRIVATE $<$<CXX_COMPILER_ID:GNU>:--param=avoid-fma-max-bits=0>)
    # GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for ours (GCC PR 105593).
    target_compile_options(${objects} PRIVATE "$<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized>")
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
  endforeach()
endfunction()
fprnn_kernels(fprnn ${FPRNN_KERNELS})
foreach(isa IN LISTS isas)
  fprnn_precompile(fprnn_${isa} <algorithm> <cmath> <fprnn/core/vector.h> <fprnn/core/vector_math.h>)
endforeach()
if(FPRNN_CUDA)
  fprnn_cuda(fprnn)
endif()
