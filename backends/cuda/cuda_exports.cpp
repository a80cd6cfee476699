// The functions that the library shiftadd_cuda exports.
#include <cstdio>

#include "backends/cuda/cuda_driver.h"
#include "backends/cuda/cuda_library.h"

#define SHIFTADD_EXPORT extern "C" __attribute__((visibility("default")))

SHIFTADD_EXPORT int32_t shiftadd_cuda_interface() { return shiftadd::kCudaInterface; }

namespace shiftadd {
namespace {

constexpr int kMultiprocessorCount = 16, kIntegrated = 18, kCapabilityMajor = 75, kCapabilityMinor = 76;  // CUdevice_attribute

constexpr size_t kUuidBytes = 16;

// "GPU-" and the bytes in groups of 4, 2, 2, 2 and 6.
void write_uuid(const unsigned char (&bytes)[kUuidBytes], char (&text)[sizeof CudaDeviceInfo::uuid]) {
  size_t length = static_cast<size_t>(std::snprintf(text, sizeof text, "GPU"));
  for (size_t i = 0; i < kUuidBytes; ++i) {
    const bool begins = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
    length += static_cast<size_t>(std::snprintf(text + length, sizeof text - length, begins ? "-%02x" : "%02x", bytes[i]));
  }
}

Status describe(int32_t index, CudaDeviceInfo* out) {
  CudaDriver driver;
  SHIFTADD_TRY(driver.open());
  SHIFTADD_TRY(driver.check(driver.device_count(&out->count), "cannot count GPUs"));
  if (out->count == 0) return not_found("there is no NVIDIA GPU");
  if (index < 0 || index >= out->count)
    return not_found("there is no GPU " + std::to_string(index) + ": this machine has " + std::to_string(out->count));
  int device = 0, major = 0, minor = 0;
  SHIFTADD_TRY(driver.check(driver.device_get(&device, index), "cannot open the GPU"));
  SHIFTADD_TRY(driver.check(driver.device_name(out->name, sizeof out->name - 1, device), "cannot ask for the GPU's name"));
  unsigned char uuid[kUuidBytes];
  SHIFTADD_TRY(driver.check(driver.device_uuid(uuid, device), "cannot ask for the GPU's identity"));
  write_uuid(uuid, out->uuid);
  const struct {
    int* value;
    int attribute;
  } wanted[] = {{&major, kCapabilityMajor}, {&minor, kCapabilityMinor}, {&out->multiprocessors, kMultiprocessorCount},
                {&out->integrated, kIntegrated}};
  for (const auto& [value, attribute] : wanted)
    SHIFTADD_TRY(driver.check(driver.device_attribute(value, attribute, device), "cannot ask for the GPU's properties"));
  out->capability = major * 10 + minor;
  return ok_status();
}

}  // namespace
}  // namespace shiftadd

SHIFTADD_EXPORT int32_t shiftadd_cuda_describe(int32_t device, shiftadd::CudaDeviceInfo* out, char* message, size_t message_size) {
  const shiftadd::Status status = shiftadd::describe(device, out);
  std::snprintf(message, message_size, "%s", status.message.c_str());
  return static_cast<int32_t>(status.code);
}

SHIFTADD_EXPORT int32_t shiftadd_cuda_open(const shiftadd::CudaOptions* options, shiftadd::Backend** backend, char* message,
                                           size_t message_size) {
  std::unique_ptr<shiftadd::Backend> made;
  const shiftadd::Status status = shiftadd::make_cuda_backend(*options, &made);
  std::snprintf(message, message_size, "%s", status.message.c_str());
  *backend = made.release();
  return static_cast<int32_t>(status.code);
}
