// One GPU as the backend uses it: its context, one stream, the kernels, memory. Work is queued on the stream in the order of
// the calls. The first failure is kept; after it nothing is started any more.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backends/cuda/cuda_driver.h"

namespace shiftadd {

// Compiled kernels for one architecture: images.cpp, which the build makes (cmake/CudaKernels.cmake).
struct KernelImage {
  int capability;  // 90: sm_90
  bool ptx;        // compiled by the driver, for anything from `capability` on
  const unsigned char* data;
};
extern const KernelImage kKernelImages[];
extern const int kKernelImageCount;

struct Grid {
  size_t x = 1, y = 1, z = 1;
};

class CudaDevice {
 public:
  static Status open(int index, std::unique_ptr<CudaDevice>* out);
  ~CudaDevice();

  const std::string& name() const { return name_; }  // "NVIDIA H100 80GB HBM3 (sm_90)"
  int capability() const { return capability_; }
  int multiprocessors() const { return multiprocessors_; }
  int kilohertz() const { return kilohertz_; }  // of the highest clock; 0: unknown

  Status allocate(size_t bytes, CudaAddress* out);
  void release(CudaAddress address);
  void clear(CudaAddress address, size_t bytes);
  void upload(const void* host, CudaAddress to, size_t bytes);
  // Waits for everything before.
  void download(CudaAddress from, void* host, size_t bytes);
  void synchronize();
  const Status& failure() const { return failure_; }
  void fail(const Status& status) {
    if (failure_.ok()) failure_ = status;
  }

  // Null, with a failure kept, when there is no such kernel.
  CudaFunction kernel(const char* name);
  // Kernels of a stream overlap: device.cuh says what they may do before they wait for each other.
  template <class... Arguments>
  void launch(CudaFunction function, Grid grid, unsigned threads, Arguments... arguments) {
    launch_shared(function, grid, threads, 0, arguments...);
  }
  // With shared memory of a size that the launch decides; allow_shared_memory before, for more than 48 KB.
  template <class... Arguments>
  void launch_shared(CudaFunction function, Grid grid, unsigned threads, unsigned shared_bytes, Arguments... arguments) {
    void* pointers[] = {&arguments...};
    launch_pointers(function, grid, threads, shared_bytes, pointers);
  }
  void allow_shared_memory(CudaFunction function, unsigned bytes);

  const CudaDriver& driver() const { return driver_; }
  CudaStream stream() const { return stream_; }
  // Must precede driver calls on a thread that may be new.
  void enter() { keep(driver_.context_set(context_), "the GPU's context"); }
  void keep(int result, const char* what) {
    if (result != 0 && failure_.ok()) failure_ = driver_.check(result, what);
  }

 private:
  Status load_kernels();
  void launch_pointers(CudaFunction function, Grid grid, unsigned threads, unsigned shared_bytes, void** arguments);

  CudaDriver driver_;
  int device_ = 0, capability_ = 0, multiprocessors_ = 0, kilohertz_ = 0;
  bool programmatic_ = false;  // kernels of the loaded image wait for each other themselves
  CudaContext context_ = nullptr;
  CudaStream stream_ = nullptr;
  CudaModule module_ = nullptr;
  std::string name_;
  Status failure_;
};

}  // namespace shiftadd
