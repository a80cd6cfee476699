// The CUDA driver, opened when it is needed: libcuda.so.1 comes with the system's GPU driver, so nothing is linked and
// nothing of a toolkit is shipped. Types and constants as in NVIDIA's cuda.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/status.h"

namespace shiftadd {

using CudaContext = struct CUctx_st*;
using CudaModule = struct CUmod_st*;
using CudaFunction = struct CUfunc_st*;
using CudaStream = struct CUstream_st*;
using CudaEvent = struct CUevent_st*;
using CudaGraph = struct CUgraph_st*;
using CudaGraphExec = struct CUgraphExec_st*;
using CudaAddress = uint64_t;

struct CudaLaunchAttribute {
  int32_t id;
  char pad[4];
  union {
    char bytes[64];
    int32_t allowed;
  };
};
constexpr int32_t kProgrammaticSerialization = 6;

struct CudaLaunch {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  CudaStream stream;
  CudaLaunchAttribute* attributes;
  unsigned attribute_count;
};

// One member per driver function; the first argument of X is our name, the second the symbol.
#define SHIFTADD_CUDA_FUNCTIONS(X)                                                                     \
  X(init, "cuInit", (unsigned))                                                                        \
  X(driver_version, "cuDriverGetVersion", (int*))                                                      \
  X(error_string, "cuGetErrorString", (int, const char**))                                             \
  X(device_count, "cuDeviceGetCount", (int*))                                                          \
  X(device_get, "cuDeviceGet", (int*, int))                                                            \
  X(device_name, "cuDeviceGetName", (char*, int, int))                                                 \
  X(device_uuid, "cuDeviceGetUuid", (unsigned char*, int))                                             \
  X(device_attribute, "cuDeviceGetAttribute", (int*, int, int))                                        \
  X(context_retain, "cuDevicePrimaryCtxRetain", (CudaContext*, int))                                   \
  X(context_release, "cuDevicePrimaryCtxRelease_v2", (int))                                            \
  X(context_set, "cuCtxSetCurrent", (CudaContext))                                                     \
  X(memory_allocate, "cuMemAlloc_v2", (CudaAddress*, size_t))                                          \
  X(memory_free, "cuMemFree_v2", (CudaAddress))                                                        \
  X(host_allocate, "cuMemHostAlloc", (void**, size_t, unsigned))                                       \
  X(host_address, "cuMemHostGetDevicePointer_v2", (CudaAddress*, void*, unsigned))                     \
  X(host_free, "cuMemFreeHost", (void*))                                                               \
  X(memory_set, "cuMemsetD8Async", (CudaAddress, unsigned char, size_t, CudaStream))                   \
  X(copy_to_device, "cuMemcpyHtoDAsync_v2", (CudaAddress, const void*, size_t, CudaStream))            \
  X(copy_to_host, "cuMemcpyDtoHAsync_v2", (void*, CudaAddress, size_t, CudaStream))                    \
  X(stream_create, "cuStreamCreate", (CudaStream*, unsigned))                                          \
  X(stream_synchronize, "cuStreamSynchronize", (CudaStream))                                           \
  X(stream_destroy, "cuStreamDestroy_v2", (CudaStream))                                                \
  X(module_load, "cuModuleLoadData", (CudaModule*, const void*))                                       \
  X(module_unload, "cuModuleUnload", (CudaModule))                                                     \
  X(module_function, "cuModuleGetFunction", (CudaFunction*, CudaModule, const char*))                  \
  X(function_attribute, "cuFuncGetAttribute", (int*, int, CudaFunction))                               \
  X(set_function_attribute, "cuFuncSetAttribute", (CudaFunction, int, int))                            \
  X(launch, "cuLaunchKernelEx", (const CudaLaunch*, CudaFunction, void**, void**))                     \
  X(capture_begin, "cuStreamBeginCapture_v2", (CudaStream, int))                                       \
  X(capture_end, "cuStreamEndCapture", (CudaStream, CudaGraph*))                                       \
  X(graph_instantiate, "cuGraphInstantiateWithFlags", (CudaGraphExec*, CudaGraph, unsigned long long)) \
  X(graph_launch, "cuGraphLaunch", (CudaGraphExec, CudaStream))                                        \
  X(graph_exec_destroy, "cuGraphExecDestroy", (CudaGraphExec))                                         \
  X(graph_destroy, "cuGraphDestroy", (CudaGraph))                                                      \
  X(event_create, "cuEventCreate", (CudaEvent*, unsigned))                                             \
  X(event_record, "cuEventRecord", (CudaEvent, CudaStream))                                            \
  X(event_synchronize, "cuEventSynchronize", (CudaEvent))                                              \
  X(event_elapsed, "cuEventElapsedTime", (float*, CudaEvent, CudaEvent))                               \
  X(event_destroy, "cuEventDestroy_v2", (CudaEvent))

// All return 0 or an error code.
struct CudaDriver {
#define SHIFTADD_CUDA_MEMBER(name, symbol, arguments) int(*name) arguments = nullptr;
  SHIFTADD_CUDA_FUNCTIONS(SHIFTADD_CUDA_MEMBER)
#undef SHIFTADD_CUDA_MEMBER

  // Opens the library and finds every function; not_found or unsupported with what is missing. It stays open: drivers do
  // not survive being unloaded.
  Status open();
  // ok for 0, else a sentence: "<what>: <the driver's words>".
  Status check(int result, const char* what) const;
};

}  // namespace shiftadd
