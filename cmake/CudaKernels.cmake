# Compiles CUDA kernels to images that a library carries, without enable_language(CUDA), a GPU or a toolkit:
#   NVRTC 12.6 makes the images up to sm_90 and the PTX, so that drivers from CUDA 12.6 on load them (JetPack 6 included);
#   nvcc 13.0 makes sm_110, which NVRTC 12.6 does not know.
# They are found in Python environments that pip fills from cmake/requirements-cuda12.txt and -cuda13.txt:
#   -DSHIFTADD_CUDA12=<venv or site-packages>  default: .venv-cuda12 of the checkout
#   -DSHIFTADD_CUDA13=<venv or site-packages>  default: .venv-cuda13, then any nvcc on PATH or in /usr/local/cuda
# CUDA_KERNELS_OK tells whether there is a compiler; CUDA_KERNELS_MISSING what is missing.
set(SHIFTADD_CUDA12 "${CMAKE_SOURCE_DIR}/.venv-cuda12" CACHE PATH "Python environment with NVRTC 12.6")
set(SHIFTADD_CUDA13 "${CMAKE_SOURCE_DIR}/.venv-cuda13" CACHE PATH "Python environment with nvcc 13.0")
find_package(Python3 COMPONENTS Interpreter QUIET)
file(GLOB _nvrtc "${SHIFTADD_CUDA12}/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"
  "${SHIFTADD_CUDA12}/lib/python3*/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12")
if(Python3_FOUND AND _nvrtc)
  list(GET _nvrtc 0 _nvrtc)
  get_filename_component(CUDA_NVRTC12 "${_nvrtc}/../../.." ABSOLUTE)
endif()
file(GLOB _bin "${SHIFTADD_CUDA13}/nvidia/cu13/bin" "${SHIFTADD_CUDA13}/lib/python3*/site-packages/nvidia/cu13/bin")
find_program(CUDA_NVCC nvcc HINTS ${_bin} ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(CUDA_NVCC)
  execute_process(COMMAND "${CUDA_NVCC}" --list-gpu-code OUTPUT_VARIABLE CUDA_NVCC_CODES RESULT_VARIABLE _rc ERROR_QUIET)
endif()
if(CUDA_NVRTC12 OR "${CUDA_NVCC_CODES}" MATCHES "sm_")
  set(CUDA_KERNELS_OK ON)
else()
  set(CUDA_KERNELS_OK OFF)
  set(CUDA_KERNELS_MISSING "no NVRTC 12.6 in ${SHIFTADD_CUDA12} and no working nvcc (docs/cuda.md)")
endif()

# cuda_kernels(<target> <file.cu> IMAGES sm_80 .. compute_80 DEPENDS headers..): adds images.S and images.cpp to the target.
function(cuda_kernels target file)
  cmake_parse_arguments(P "" "" "IMAGES;DEPENDS" ${ARGN})
  get_filename_component(source "${file}" ABSOLUTE)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}_kernels")
  file(MAKE_DIRECTORY "${folder}")
  foreach(image IN LISTS P_IMAGES)
    string(REGEX REPLACE "[^0-9]" "" capability "${image}")
    string(REGEX MATCH "^compute" ptx "${image}")
    set(binary "${folder}/${image}.bin")
    if(CUDA_NVRTC12 AND capability LESS 100)
      set(command "${Python3_EXECUTABLE}" "${CMAKE_SOURCE_DIR}/cmake/nvrtc_compile.py" "${CUDA_NVRTC12}" ${image}
        "${CMAKE_SOURCE_DIR}" "${source}" "${binary}")
    elseif("${CUDA_NVCC_CODES}" MATCHES "sm_${capability}[^0-9]")
      set(kind -cubin)
      if(ptx)
        set(kind -ptx)
      endif()
      set(command "${CUDA_NVCC}" -std=c++17 -O3 -fmad=false "-I${CMAKE_SOURCE_DIR}" ${kind} -arch=${image} -o "${binary}" "${source}")
    else()
      message(STATUS "CUDA backend: no compiler here for ${image}; this image is left out")
      continue()
    endif()
    add_custom_command(OUTPUT "${binary}" COMMAND ${command} DEPENDS "${source}" ${P_DEPENDS}
      "${CMAKE_SOURCE_DIR}/cmake/nvrtc_compile.py" COMMENT "CUDA kernels for ${image}" VERBATIM)
    set(is_ptx false)
    if(ptx)
      set(is_ptx true)
    endif()
    list(APPEND binaries "${binary}")
    # The byte behind an image ends PTX, which the driver reads as a string.
    string(APPEND assembly ".balign 16\n.globl kernels_${image}\n.hidden kernels_${image}\nkernels_${image}: .incbin \"${binary}\"\n.byte 0\n")
    string(APPEND declarations "extern \"C\" const unsigned char kernels_${image}[];\n")
    string(APPEND rows "    {${capability}, ${is_ptx}, kernels_${image}},\n")
  endforeach()
  file(CONFIGURE OUTPUT "${folder}/images.S" CONTENT ".section .rodata\n${assembly}.section .note.GNU-stack,\"\",%progbits\n" @ONLY)
  file(CONFIGURE OUTPUT "${folder}/images.cpp" CONTENT "#include \"backends/cuda/cuda_device.h\"
${declarations}namespace shiftadd {
const KernelImage kKernelImages[] = {\n${rows}};
const int kKernelImageCount = sizeof kKernelImages / sizeof *kKernelImages;
}  // namespace shiftadd\n" @ONLY)
  set_source_files_properties("${folder}/images.S" PROPERTIES OBJECT_DEPENDS "${binaries}")
  target_sources(${target} PRIVATE "${folder}/images.S" "${folder}/images.cpp" ${binaries})
endfunction()
