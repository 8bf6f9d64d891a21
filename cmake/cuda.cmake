# The CUDA language and toolkit. Machine code for every GPU that there is, and what the driver makes later ones'
# of; for this machine's GPU alone: -DCMAKE_CUDA_ARCHITECTURES=native. CMake 3.25 does not know how nvcc 13 is
# asked for C++20.
set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120
    CACHE STRING "GPU architectures to compile for")
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
find_package(CUDAToolkit 13 REQUIRED GLOBAL)  # as in dependencies.cmake

# Beside those that bear the name of a source of the library (cmake/library.cmake).
set(FPRNN_CUDA_ONLY
    cuda/device.cu cuda/box.cu cuda/scan_ring.cu cuda/kronecker_mix.cu cuda/half_rows.cu
    cuda/half_product.cu cuda/scatter_rows.cu cuda/selective_scan_gradient.cu cuda/ssd_scan_gradient.cu cuda/fp_mamba_numbers.cu cuda/fp_mamba_sweep.cu
    cuda/fp_mamba_steps.cu cuda/fp_mamba_persistent.cu cuda/fp_mamba2_steps.cu cuda/fp_mamba2_persistent.cu cuda/fp_mamba_adjoint_layer.cu cuda/fp_mamba_adjoint_rms.cu
    cuda/fp_rnn_sweep.cu cuda/fp_delta_sweep.cu cuda/fp_delta_adjoint.cu cuda/graph.cu cuda/delta_rule_gradient.cu cuda/delta_rule_bf16.cu cuda/delta_rule_steps.cu cuda/attention_few.cu cuda/attention_gradient.cu cuda/mlstm_gradient.cu cuda/pd_select.cu cuda/act_gradient.cu)

# How CUDA sources are compiled. Where the preset cuda-check makes PTX for 8.0 alone, which has the fewest
# instructions, the files whose code differs on later GPUs are compiled for 9.0 too.
function(fprnn_cuda_flags target)
  if(CMAKE_CUDA_ARCHITECTURES STREQUAL "80-virtual")
    get_target_property(sources ${target} SOURCES)
    foreach(source IN LISTS sources)
      file(STRINGS ${PROJECT_SOURCE_DIR}/${source} by_architecture REGEX "__CUDA_ARCH__|/box\\.cuh>")
      if(by_architecture)
        set_source_files_properties(${source} PROPERTIES
          COMPILE_OPTIONS --generate-code=arch=compute_90,code=[compute_90])
      endif()
    endforeach()
  endif()
  set_target_properties(${target} PROPERTIES
    CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF
    CUDA_SEPARABLE_COMPILATION OFF POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${target} PRIVATE
    --extended-lambda --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra
    $<$<BOOL:${FPRNN_WERROR}>:-Werror=all-warnings>)
  target_include_directories(${target} PRIVATE ${FPRNN_INCLUDE})
endfunction()

# Objects of their own: CUDA has flags of its own, and a static library takes both. cudart and cuBLAS
# are what whoever links the library needs besides; no program needs the language or its headers.
function(fprnn_cuda target)
  add_library(${target}_cuda OBJECT ${FPRNN_CUDA_SOURCES} ${FPRNN_CUDA_ONLY})
  fprnn_cuda_flags(${target}_cuda)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_cuda>)
  target_link_libraries(${target} PRIVATE CUDA::cudart_static CUDA::cublasLt)
endfunction()
