// One GPU as the backend uses it: its context, one stream, the kernels, memory. Work is queued on the stream in the order of
// the calls. The first failure is kept; after it nothing is started any more.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backends/cuda/cuda_driver.h"
#include "backends/cuda/cuda_step.h"

namespace shiftadd {

// Compiled kernels for one architecture: images.cpp, which the build makes (cmake/CudaKernels.cmake).
struct KernelImage {
  int capability;  // 90: sm_90
  bool ptx;        // compiled by the driver, for anything from `capability` on
  const unsigned char* data;
};
extern const KernelImage kKernelImages[];
extern const int kKernelImageCount;

// Memory of the processor that the GPU reads where it is.
struct CudaWindow {
  unsigned char* host = nullptr;
  CudaAddress address = 0;
};

class CudaDevice {
 public:
  static Status open(int index, std::unique_ptr<CudaDevice>* out);
  ~CudaDevice();

  const std::string& name() const { return name_; }  // "NVIDIA H100 80GB HBM3 (sm_90)"
  int capability() const { return capability_; }
  int multiprocessors() const { return multiprocessors_; }
  // Processor and GPU have one memory.
  bool integrated() const { return integrated_; }
  void set_integrated(bool integrated) { integrated_ = integrated; }  // for tests
  int kilohertz() const { return kilohertz_; }  // of the highest clock; 0: unknown

  Status allocate(size_t bytes, CudaAddress* out);
  void release(CudaAddress address);
  Status open_window(size_t bytes, CudaWindow* out);
  void close_window(CudaWindow window);
  void clear(CudaAddress address, size_t bytes);
  // Whole words, when they are few.
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
  void launch(CudaFunction function, Grid grid, unsigned threads, const Arguments&... arguments) {
    launch_shared(function, grid, threads, 0, arguments...);
  }
  // With shared memory of a size that the launch decides; allow_shared_memory before, for more than 48 KB.
  template <class... Arguments>
  void launch_shared(CudaFunction function, Grid grid, unsigned threads, unsigned shared_bytes, const Arguments&... arguments) {
    void* pointers[] = {const_cast<Arguments*>(&arguments)...};
    if (!in_step_) return start(function, grid, threads, shared_bytes, pointers);
    constexpr size_t sizes[] = {sizeof(Arguments)...};
    step_.add(function, grid, threads, shared_bytes, pointers, sizes, sizeof...(arguments));
  }
  void allow_shared_memory(CudaFunction function, unsigned bytes);

  // Launches between the two are collected, and started together at the end: as one graph, when an earlier step had the same. Any
  // other call in between starts what was collected, and the rest of the step is launched as it comes.
  void begin_step();
  void end_step();
  size_t replayed_steps() const { return replayed_steps_; }

  const CudaDriver& driver() const { return driver_; }
  CudaStream stream() const { return stream_; }
  // Must precede driver calls on a thread that may be new.
  void enter() {
    keep(driver_.context_set(context_), "the GPU's context");
    leave_step();
  }
  void keep(int result, const char* what) {
    if (result != 0 && failure_.ok()) failure_ = driver_.check(result, what);
  }

 private:
  Status load_kernels();
  void start(CudaFunction function, Grid grid, unsigned threads, unsigned shared_bytes, void** arguments);
  // Starts what was collected so far.
  void leave_step();

  CudaDriver driver_;
  int device_ = 0, capability_ = 0, multiprocessors_ = 0, kilohertz_ = 0;
  bool integrated_ = false;
  bool programmatic_ = false;  // kernels of the loaded image wait for each other themselves
  CudaContext context_ = nullptr;
  CudaStream stream_ = nullptr;
  CudaModule module_ = nullptr;
  CudaFunction store_words_ = nullptr;
  std::string name_;
  LaunchList step_;
  StepGraphs graphs_;
  bool in_step_ = false;
  size_t replayed_steps_ = 0;
  Status failure_;
};

}  // namespace shiftadd
