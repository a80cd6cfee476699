// NVIDIA's management library, opened at run time: what it answers, what it does not answer, and no library at all.
#include "devices/nvml/nvml.h"

#include "test/native/tap.h"

using namespace shiftadd;

int main() {
  const char* stub = SHIFTADD_NVML_STUB;
  uint32_t count = 0, power = 0;
  uint64_t energy = 0;
  tap::check(nvml_count(stub, &count).ok() && count == 5, "five GPUs");
  NvmlDevice device;
  tap::check(nvml_describe(stub, 3, &device).ok() && device.name == "Stub 3" && device.uuid == "GPU-3" && device.partitioned, "name, uuid and partition");
  tap::check(nvml_describe(stub, 0, &device).ok() && !device.partitioned, "a whole GPU");
  tap::check(nvml_energy(stub, 0, &energy).ok() && energy == 961000, "millijoules");
  tap::check(nvml_power(stub, 1, &power).ok() && power == 250000, "milliwatts");
  const Status none = nvml_energy(stub, 1, &energy);
  tap::check(none.code == Code::unsupported && none.message == "reading the energy: Not Supported", "a GPU without counter says so");
  power = 7;
  tap::check(nvml_power(stub, 2, &power).code == Code::unsupported && power == 7, "no power is no zero");
  tap::check(nvml_power(stub, 4, &power).code == Code::device_failed, "a failure is another thing");
  tap::check(nvml_power(stub, 9, &power).code == Code::device_failed, "no such GPU");
  uint64_t own = 0;
  tap::check(nvml_own_memory(stub, 0, &own).ok() && own == 451ull << 20, "memory of this process, the last rows of many");
  tap::check(nvml_own_memory(stub, 1, &own).code == Code::not_found, "a process that is not listed, as in a container");
  tap::check(nvml_own_memory(stub, 2, &own).code == Code::unsupported, "no list");
  tap::check(nvml_own_memory(stub, 3, &own).code == Code::unsupported && own == 451ull << 20, "memory that is not told is no number");
  const Status missing = nvml_count("/nowhere/libnvidia-ml.so.1", &count);
  tap::check(missing.code == Code::not_found && missing.message.find("/nowhere") != std::string::npos, "no library");
  tap::check(nvml_count("libdl.so.2", &count).code == Code::unsupported, "another library");
  return tap::finish();
}
