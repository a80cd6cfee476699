// What tests of the CUDA backend share: the device, which is emulated where there is no GPU (test/cuda/emulation.cpp), the CPU
// backend beside it, and buffers with numbers.
#pragma once

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cuda/cuda_library.h"
#include "test/native/random_weights.h"
#include "test/native/tap.h"

#ifndef SHIFTADD_CUDA_LIBRARY
#define SHIFTADD_CUDA_LIBRARY nullptr
#endif

namespace shiftadd {

constexpr const char* kCudaLibrary = SHIFTADD_CUDA_LIBRARY;  // null in a build without the CUDA backend

struct Devices {
  std::unique_ptr<Backend> cuda, cpu;
  bool small = false;  // small shapes and few tokens: the device is emulated, or the first argument says so (for sanitizers)
};

inline Status open_cuda(std::unique_ptr<Backend>* out, KvType kv_type = KvType::f32) {
  return open_cuda_library(kCudaLibrary, {0, 2, kv_type}, out);
}

// Opens both, or starts the program again with the emulated driver where the loader looks first; false, with TAP that says
// why, when neither is there.
inline bool open_devices(char** arguments, Devices* devices) {
  if (kCudaLibrary == nullptr) {
    std::printf("TAP version 14\n1..0 # SKIP this build has no CUDA backend: no compiler of its kernels was found (docs/cuda.md)\n");
    return false;
  }
  Status status = open_cuda(&devices->cuda);
  if (status.ok()) status = make_cpu_backend({}, &devices->cpu);
#ifdef SHIFTADD_CUDA_EMULATION
  if (status.code == Code::not_found && std::getenv("SHIFTADD_EMULATED") == nullptr) {
    setenv("LD_LIBRARY_PATH", SHIFTADD_CUDA_EMULATION, 1);
    setenv("SHIFTADD_EMULATED", "1", 1);
    execv("/proc/self/exe", arguments);
  }
#endif
  if (!status.ok()) {
    std::printf("TAP version 14\n1..0 # SKIP %s\n", status.message.c_str());
    return false;
  }
  devices->small = std::strstr(devices->cuda->isa(), "emulation") != nullptr ||
                   (arguments[1] != nullptr && std::strcmp(arguments[1], "small") == 0);
  tap::note("device: %s", devices->cuda->isa());
  return true;
}

inline std::vector<float> activations(size_t count, uint64_t seed, double outliers = 0.005) {
  Random random{seed};
  std::vector<float> x(count);
  for (float& value : x) value = static_cast<float>(random.normal() * (random.uniform() < outliers ? 20 : 1));
  return x;
}

// A buffer of a backend with a host's numbers.
class Floats {
 public:
  Floats(Backend& backend, const std::vector<float>& values) : Floats(backend, values.size()) {
    backend_.upload(values.data(), buffer_, values.size());
  }
  Floats(Backend& backend, size_t count) : backend_(backend), count_(count) {
    if (!backend.allocate(count * sizeof(float), &buffer_).ok()) std::abort();
  }
  ~Floats() { backend_.release(buffer_); }
  Floats(const Floats&) = delete;
  operator Buffer() const { return buffer_; }
  std::vector<float> read() const {
    std::vector<float> values(count_);
    backend_.download(buffer_, values.data(), count_);
    return values;
  }

 private:
  Backend& backend_;
  size_t count_;
  Buffer buffer_;
};

inline double error_of(const std::vector<float>& got, const std::vector<float>& wanted) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += (double{got[i]} - wanted[i]) * (double{got[i]} - wanted[i]);
    size += double{wanted[i]} * wanted[i];
  }
  return std::sqrt(difference / (size == 0 ? 1 : size));
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// x W^T on a backend.
inline std::vector<float> multiply(Backend& backend, const Weights& weights, const std::vector<float>& x, uint32_t tokens) {
  const Floats in(backend, x);
  Floats out(backend, std::vector<float>(size_t{tokens} * weights.rows(), -1.0f));
  const LinearCall calls[] = {{&weights, out}};
  backend.begin(tokens, 0);
  backend.linear(calls, in, tokens);
  backend.end();
  return out.read();
}

}  // namespace shiftadd
