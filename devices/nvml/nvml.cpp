#include "devices/nvml/nvml.h"

#include <dlfcn.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace shiftadd {
namespace {

// The part of NVML's interface that is used; it has been stable since its second version.
using Handle = void*;
using Result = int;
constexpr Result kSuccess = 0, kNotSupported = 3, kNoPermission = 4, kInsufficientSize = 7;
constexpr unsigned kTextSize = 96;

// nvmlProcessInfo_t since the second version of the function.
struct Process {
  unsigned pid;
  unsigned long long bytes;  // all ones where it is not known
  unsigned instance, part;
};
constexpr unsigned kMostProcesses = 1u << 16;

struct Library {
  Status status;  // of opening and starting
  Result (*count)(unsigned*) = nullptr;
  Result (*handle)(unsigned, Handle*) = nullptr;
  Result (*name)(Handle, char*, unsigned) = nullptr;
  Result (*uuid)(Handle, char*, unsigned) = nullptr;
  Result (*mig)(Handle, unsigned*, unsigned*) = nullptr;  // absent in older drivers
  Result (*energy)(Handle, unsigned long long*) = nullptr;
  Result (*power)(Handle, unsigned*) = nullptr;
  Result (*processes)(Handle, unsigned*, Process*) = nullptr;  // absent in older drivers
  const char* (*error)(Result) = nullptr;
  mutable std::map<uint32_t, Handle> handles;  // finding one takes longer than reading
};

template <class Function>
bool find(void* library, const char* name, Function* out) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  return *out != nullptr;
}

Status outcome(const Library& library, Result result, const char* what) {
  if (result == kSuccess) return ok_status();
  const std::string text = library.error != nullptr ? library.error(result) : "error " + std::to_string(result);
  const std::string message = std::string(what) + ": " + text;
  if (result == kNotSupported || result == kNoPermission) return unsupported(message);
  return {Code::device_failed, message};
}

Library open_library(const char* path) {
  Library out;
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    out.status = not_found("NVIDIA's management library cannot be opened: " + std::string(dlerror()));
    return out;
  }
  Result (*init)() = nullptr;
  const bool complete = find(library, "nvmlInit_v2", &init) && find(library, "nvmlDeviceGetCount_v2", &out.count) &&
                        find(library, "nvmlDeviceGetHandleByIndex_v2", &out.handle) &&
                        find(library, "nvmlDeviceGetName", &out.name) && find(library, "nvmlDeviceGetUUID", &out.uuid) &&
                        find(library, "nvmlDeviceGetPowerUsage", &out.power);
  if (!complete) {
    out.status = unsupported(std::string(path) + " is not NVIDIA's management library");
    return out;
  }
  find(library, "nvmlErrorString", &out.error);
  find(library, "nvmlDeviceGetMigMode", &out.mig);
  find(library, "nvmlDeviceGetTotalEnergyConsumption", &out.energy);  // absent in drivers before Volta
  find(library, "nvmlDeviceGetComputeRunningProcesses_v3", &out.processes);
  out.status = outcome(out, init(), "starting NVIDIA's management library");
  return out;
}

// One per path; a library that cannot be opened now is tried again, because a driver may be loaded later.
std::shared_ptr<const Library> library_of(const char* path) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const Library>> libraries;
  const std::string name = path != nullptr ? path : "libnvidia-ml.so.1";
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<const Library>& library = libraries[name];
  if (library == nullptr || !library->status.ok()) library = std::make_shared<const Library>(open_library(name.c_str()));
  return library;
}

Status handle_of(const Library& library, uint32_t device, Handle* out) {
  if (!library.status.ok()) return library.status;
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (const auto known = library.handles.find(device); known != library.handles.end()) {
    *out = known->second;
    return ok_status();
  }
  SHIFTADD_TRY(outcome(library, library.handle(device, out), "finding the GPU"));
  library.handles.emplace(device, *out);
  return ok_status();
}

}  // namespace

Status nvml_count(const char* path, uint32_t* count) {
  const std::shared_ptr<const Library> held = library_of(path);
  const Library& library = *held;
  if (!library.status.ok()) return library.status;
  unsigned value = 0;
  SHIFTADD_TRY(outcome(library, library.count(&value), "counting the GPUs"));
  *count = value;
  return ok_status();
}

Status nvml_describe(const char* path, uint32_t device, NvmlDevice* out) {
  const std::shared_ptr<const Library> held = library_of(path);
  const Library& library = *held;
  Handle handle = nullptr;
  SHIFTADD_TRY(handle_of(library, device, &handle));
  char text[kTextSize] = "";
  if (library.name(handle, text, kTextSize) == kSuccess) out->name = text;
  if (library.uuid(handle, text, kTextSize) == kSuccess) out->uuid = text;
  unsigned now = 0, pending = 0;
  out->partitioned = library.mig != nullptr && library.mig(handle, &now, &pending) == kSuccess && now == 1;
  return ok_status();
}

Status nvml_energy(const char* path, uint32_t device, uint64_t* millijoules) {
  const std::shared_ptr<const Library> held = library_of(path);
  const Library& library = *held;
  Handle handle = nullptr;
  SHIFTADD_TRY(handle_of(library, device, &handle));
  if (library.energy == nullptr) return unsupported("the driver has no counter of energy");
  unsigned long long value = 0;
  SHIFTADD_TRY(outcome(library, library.energy(handle, &value), "reading the energy"));
  *millijoules = value;
  return ok_status();
}

Status nvml_power(const char* path, uint32_t device, uint32_t* milliwatts) {
  const std::shared_ptr<const Library> held = library_of(path);
  const Library& library = *held;
  Handle handle = nullptr;
  SHIFTADD_TRY(handle_of(library, device, &handle));
  unsigned value = 0;
  SHIFTADD_TRY(outcome(library, library.power(handle, &value), "reading the power"));
  *milliwatts = value;
  return ok_status();
}

Status nvml_own_memory(const char* path, uint32_t device, uint64_t* bytes) {
  const std::shared_ptr<const Library> held = library_of(path);
  const Library& library = *held;
  Handle handle = nullptr;
  SHIFTADD_TRY(handle_of(library, device, &handle));
  if (library.processes == nullptr) return unsupported("the driver has no list of processes");
  std::vector<Process> list(16);
  Result result = kInsufficientSize;
  unsigned count = 0;
  // Processes may come while they are counted.
  while (result == kInsufficientSize && list.size() <= kMostProcesses) {
    count = static_cast<unsigned>(list.size());
    result = library.processes(handle, &count, list.data());
    if (result == kInsufficientSize) list.resize(list.size() * 2);
  }
  SHIFTADD_TRY(outcome(library, result, "listing the processes"));
  uint64_t sum = 0;
  bool is_listed = false;
  for (unsigned i = 0; i < count; ++i) {  // a process has a row for each part of the GPU (MIG) that it uses
    if (list[i].pid != static_cast<unsigned>(getpid())) continue;
    if (list[i].bytes == ~0ull) return unsupported("the driver does not tell the memory of a process");
    sum += list[i].bytes;
    is_listed = true;
  }
  if (!is_listed) return not_found("the driver does not list this process");
  *bytes = sum;
  return ok_status();
}

}  // namespace shiftadd
