// The power readings of NVIDIA's driver. Its library is opened at run time: a machine without one is an ordinary machine.
#pragma once

#include <cstdint>
#include <string>

#include "core/status.h"

namespace shiftadd {

struct NvmlDevice {
  std::string name;
  std::string uuid;  // "GPU-..."
  bool partitioned = false;  // MIG: the readings are those of the whole GPU
};

// `library` null means the driver's own. It is opened once, and stays open. not_found without library or driver.
Status nvml_count(const char* library, uint32_t* count);
Status nvml_describe(const char* library, uint32_t device, NvmlDevice* out);
// Since the driver was loaded, mJ. unsupported where the GPU has no counter.
Status nvml_energy(const char* library, uint32_t device, uint64_t* millijoules);
// Mean of up to a second, mW. unsupported where the driver does not tell (every Jetson Orin).
Status nvml_power(const char* library, uint32_t device, uint32_t* milliwatts);
// What this process holds of the GPU's memory, with the driver's own part. not_found where the driver does not list the process:
// it has not used the GPU, or runs in a container, whose process numbers the driver does not know.
Status nvml_own_memory(const char* library, uint32_t device, uint64_t* bytes);

}  // namespace shiftadd
