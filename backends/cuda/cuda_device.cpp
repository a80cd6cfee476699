#include "backends/cuda/cuda_device.h"

#include <cstring>

#include "backends/cuda/parameters.h"

namespace shiftadd {
namespace {

// CUdevice_attribute
constexpr int kClockRate = 13, kMultiprocessorCount = 16, kIntegrated = 18, kCanMapHostMemory = 19, kCapabilityMajor = 75, kCapabilityMinor = 76;
constexpr int kFirstCapability = 80;        // the binary matrix instruction with AND
constexpr int kProgrammaticCapability = 90; // griddepcontrol, which device.cuh compiles from here on
constexpr unsigned kNonBlocking = 1;        // CU_STREAM_NON_BLOCKING
constexpr unsigned kHostMapped = 2;         // CU_MEMHOSTALLOC_DEVICEMAP
constexpr int kMaxSharedBytes = 8;          // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

// An image of a chip that is not a plug-in card fits that chip alone, and the chip takes no other.
bool is_embedded(int capability) { return capability == 87 || capability == 110; }

bool fits(const KernelImage& image, int capability) {
  if (image.ptx) return capability >= image.capability;
  if (image.capability == capability) return true;
  return !is_embedded(image.capability) && !is_embedded(capability) && image.capability / 10 == capability / 10 &&
         image.capability < capability;
}

}  // namespace

Status CudaDevice::open(int index, std::unique_ptr<CudaDevice>* out) {
  std::unique_ptr<CudaDevice> device(new CudaDevice());
  CudaDriver& driver = device->driver_;
  SHIFTADD_TRY(driver.open());
  int count = 0, major = 0, minor = 0;
  SHIFTADD_TRY(driver.check(driver.device_count(&count), "cannot count GPUs"));
  if (count == 0) return not_found("there is no NVIDIA GPU");
  if (index < 0 || index >= count)
    return not_found("there is no GPU " + std::to_string(index) + ": this machine has " + std::to_string(count));
  SHIFTADD_TRY(driver.check(driver.device_get(&device->device_, index), "cannot open the GPU"));
  char name[200] = {};
  SHIFTADD_TRY(driver.check(driver.device_name(name, sizeof name - 1, device->device_), "cannot ask for the GPU's name"));
  SHIFTADD_TRY(driver.check(driver.device_attribute(&major, kCapabilityMajor, device->device_), "cannot ask for the GPU's kind"));
  SHIFTADD_TRY(driver.check(driver.device_attribute(&minor, kCapabilityMinor, device->device_), "cannot ask for the GPU's kind"));
  SHIFTADD_TRY(driver.check(driver.device_attribute(&device->multiprocessors_, kMultiprocessorCount, device->device_),
                            "cannot ask for the GPU's size"));
  if (driver.device_attribute(&device->kilohertz_, kClockRate, device->device_) != 0) device->kilohertz_ = 0;
  int integrated = 0, maps = 0;
  device->integrated_ = driver.device_attribute(&integrated, kIntegrated, device->device_) == 0 &&
                        driver.device_attribute(&maps, kCanMapHostMemory, device->device_) == 0 && integrated != 0 && maps != 0;
  device->capability_ = major * 10 + minor;
  device->name_ = std::string(name) + " (sm_" + std::to_string(device->capability_) + ")";
  if (device->capability_ < kFirstCapability)
    return unsupported(device->name_ + " is too old: compute capability 8.0 (Ampere) is the first that works");
  SHIFTADD_TRY(driver.check(driver.context_retain(&device->context_, device->device_), "cannot open a context on the GPU"));
  SHIFTADD_TRY(driver.check(driver.context_set(device->context_), "cannot use the GPU's context"));
  SHIFTADD_TRY(driver.check(driver.stream_create(&device->stream_, kNonBlocking), "cannot open a stream on the GPU"));
  SHIFTADD_TRY(device->load_kernels());
  *out = std::move(device);
  return ok_status();
}

// The nearest binary image, then PTX.
Status CudaDevice::load_kernels() {
  Status status = unsupported("there are no kernels for " + name_);
  for (const bool ptx : {false, true}) {
    const KernelImage* best = nullptr;
    for (int i = 0; i < kKernelImageCount; ++i)
      if (kKernelImages[i].ptx == ptx && fits(kKernelImages[i], capability_) &&
          (best == nullptr || kKernelImages[i].capability > best->capability))
        best = &kKernelImages[i];
    if (best == nullptr) continue;
    status = driver_.check(driver_.module_load(&module_, best->data), "the GPU does not take the kernels");
    if (status.ok()) {
      // Kernels of an older architecture, which the driver may compile from PTX for a newer GPU, do not wait for each other.
      programmatic_ = best->capability >= kProgrammaticCapability;
      store_words_ = kernel("store_words");
      return failure_;
    }
  }
  return status;
}

CudaDevice::~CudaDevice() {
  if (context_ == nullptr) return;
  driver_.context_set(context_);
  if (stream_ != nullptr) {
    driver_.stream_synchronize(stream_);
    graphs_.clear(driver_);
    driver_.stream_destroy(stream_);
  }
  if (module_ != nullptr) driver_.module_unload(module_);
  // The context stays as long as the process: drivers do not give back all that a context took, and a program may open many
  // models.
}

Status CudaDevice::allocate(size_t bytes, CudaAddress* out) {
  enter();
  SHIFTADD_TRY(failure_);
  const std::string what = "cannot allocate " + std::to_string(bytes) + " bytes on the GPU";
  return driver_.check(driver_.memory_allocate(out, bytes == 0 ? 1 : bytes), what.c_str());
}

void CudaDevice::release(CudaAddress address) {
  if (address == 0) return;
  enter();
  driver_.stream_synchronize(stream_);  // kernels may still use it
  driver_.memory_free(address);
}

Status CudaDevice::open_window(size_t bytes, CudaWindow* out) {
  enter();
  SHIFTADD_TRY(failure_);
  const std::string what = "cannot allocate " + std::to_string(bytes) + " bytes that processor and GPU share";
  void* host = nullptr;
  SHIFTADD_TRY(driver_.check(driver_.host_allocate(&host, bytes, kHostMapped), what.c_str()));
  out->host = static_cast<unsigned char*>(host);
  const Status status = driver_.check(driver_.host_address(&out->address, host, 0), what.c_str());
  if (!status.ok()) driver_.host_free(host);
  return status;
}

void CudaDevice::close_window(CudaWindow window) {
  enter();
  driver_.stream_synchronize(stream_);  // kernels may still read it
  driver_.host_free(window.host);
}

void CudaDevice::clear(CudaAddress address, size_t bytes) {
  enter();
  if (failure_.ok() && bytes > 0) keep(driver_.memory_set(address, 0, bytes, stream_), "clearing GPU memory");
}

void CudaDevice::upload(const void* host, CudaAddress to, size_t bytes) {
  enter();
  if (bytes > 0 && bytes <= shiftadd_cuda::kSmallWords * sizeof(unsigned) && bytes % sizeof(unsigned) == 0) {
    shiftadd_cuda::SmallUpload small{};
    small.to = reinterpret_cast<unsigned*>(to);
    small.count = static_cast<unsigned>(bytes / sizeof(unsigned));
    std::memcpy(small.words, host, bytes);
    return launch(store_words_, {1}, shiftadd_cuda::kThreads, small);
  }
  // From pageable memory the driver takes its copy before it returns, so `host` may change afterwards.
  if (failure_.ok() && bytes > 0) keep(driver_.copy_to_device(to, host, bytes, stream_), "copying to the GPU");
}

void CudaDevice::download(CudaAddress from, void* host, size_t bytes) {
  enter();
  if (failure_.ok() && bytes > 0) keep(driver_.copy_to_host(host, from, bytes, stream_), "copying from the GPU");
  synchronize();
}

void CudaDevice::synchronize() {
  enter();
  if (failure_.ok()) keep(driver_.stream_synchronize(stream_), "running kernels on the GPU");
}

CudaFunction CudaDevice::kernel(const char* name) {
  enter();
  CudaFunction function = nullptr;
  keep(driver_.module_function(&function, module_, name), name);
  return function;
}

void CudaDevice::allow_shared_memory(CudaFunction function, unsigned bytes) {
  enter();
  if (failure_.ok())
    keep(driver_.set_function_attribute(function, kMaxSharedBytes, static_cast<int>(bytes)), "asking the GPU for shared memory");
}

void CudaDevice::start(CudaFunction function, Grid grid, unsigned threads, unsigned shared_bytes, void** arguments) {
  enter();
  if (!failure_.ok() || grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  CudaLaunchAttribute attribute{};
  attribute.id = kProgrammaticSerialization;
  attribute.allowed = 1;
  CudaLaunch launch{static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z), threads, 1, 1,
                    shared_bytes, stream_, &attribute, programmatic_ ? 1u : 0u};
  keep(driver_.launch(&launch, function, arguments, nullptr), "starting a kernel on the GPU");
}

void CudaDevice::begin_step() {
  enter();
  step_.clear();
  in_step_ = true;
}

void CudaDevice::leave_step() {
  if (!in_step_) return;
  in_step_ = false;
  step_.each([&](auto... launch) { start(launch...); });
}

void CudaDevice::end_step() {
  if (!in_step_) return;
  in_step_ = false;
  enter();
  if (!failure_.ok()) return;
  const auto start_all = [&] {
    step_.each([&](auto... launch) { start(launch...); });
  };
  const CudaGraphExec graph = graphs_.find(driver_, stream_, step_, start_all);
  if (graph == nullptr) return start_all();
  keep(driver_.graph_launch(graph, stream_), "starting a step on the GPU");
  ++replayed_steps_;
}

}  // namespace shiftadd
