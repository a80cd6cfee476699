// A stand-in for libnvidia-ml.so.1 with five GPUs: 0 has a counter and power, 1 power alone, 2 answers "not supported" to
// both as Jetson Orin does, 3 is partitioned, 4 fails. A reading of 0 is what every other reader has made of number 2.
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace {
constexpr int kSuccess = 0, kInvalid = 2, kNotSupported = 3, kInsufficientSize = 7, kUnknown = 999;
int index_of(void* handle) { return static_cast<int>(reinterpret_cast<size_t>(handle)) - 1; }
int answer(void* handle, bool counter) {
  const int index = index_of(handle);
  if (index == 4) return kUnknown;
  return index == 2 || (index == 1 && counter) ? kNotSupported : kSuccess;
}
}  // namespace

struct Process {
  unsigned pid;
  unsigned long long bytes;
  unsigned instance, part;
};

#pragma GCC visibility push(default)
extern "C" {
int nvmlInit_v2() { return kSuccess; }
int nvmlDeviceGetCount_v2(unsigned* count) { return *count = 5, kSuccess; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  if (index > 4) return kInvalid;
  *handle = reinterpret_cast<void*>(static_cast<size_t>(index) + 1);
  return kSuccess;
}
int nvmlDeviceGetName(void* handle, char* text, unsigned size) { return std::snprintf(text, size, "Stub %d", index_of(handle)), kSuccess; }
int nvmlDeviceGetUUID(void* handle, char* text, unsigned size) { return std::snprintf(text, size, "GPU-%d", index_of(handle)), kSuccess; }
int nvmlDeviceGetMigMode(void* handle, unsigned* now, unsigned* pending) {
  *pending = *now = index_of(handle) == 3 ? 1 : 0;
  return kSuccess;
}
int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* millijoules) { return *millijoules = 961000, answer(handle, true); }
int nvmlDeviceGetPowerUsage(void* handle, unsigned* milliwatts) { return *milliwatts = 250000, answer(handle, false); }
// GPU 0 has many processes and this one last, 1 has others alone, 3 does not tell their memory.
int nvmlDeviceGetComputeRunningProcesses_v3(void* handle, unsigned* count, Process* list) {
  const int index = index_of(handle);
  if (index == 2) return kNotSupported;
  const unsigned all = index == 0 ? 40 : 1;
  if (*count < all) return *count = all, kInsufficientSize;
  for (unsigned i = 0; i < all; ++i) list[i] = {1000000 + i, 1, 0, 0};
  // Two rows, as of two parts of a GPU.
  if (index == 0) list[all - 2] = {static_cast<unsigned>(getpid()), 1ull << 20, 0, 1};
  if (index != 1) list[all - 1] = {static_cast<unsigned>(getpid()), index == 3 ? ~0ull : 450ull << 20, 0, 0};
  return *count = all, kSuccess;
}
const char* nvmlErrorString(int result) { return result == kNotSupported ? "Not Supported" : "Unknown Error"; }
}
