// Cached keys and values on their way to and from the host. A position has there head by head its numbers and then its scales, those of
// the keys before those of the values; on the device the positions of one head lie side by side (kv_layout.h).
#pragma once

#include <cstring>
#include <vector>

#include "backends/cuda/cuda_device.h"
#include "backends/cuda/kv_layout.h"
#include "core/backend.h"

namespace shiftadd {

class KvTransfer {
 public:
  explicit KvTransfer(CudaDevice& device) : device_(device) {}

  // Positions [first, first + count) of one layer, which begin `stride` bytes apart on the host.
  void read(const KvLayout& layout, KvView cache, uint32_t kv_heads, uint32_t first, uint32_t count, uint8_t* host, size_t stride) {
    each_run(layout, cache, kv_heads, first, [&](CudaAddress run, size_t at, size_t bytes) {
      run_.resize(bytes * count);
      device_.download(run, run_.data(), bytes * count);
      for (size_t m = 0; m < count; ++m) std::memcpy(host + m * stride + at, &run_[m * bytes], bytes);
    });
  }
  void write(const KvLayout& layout, KvView cache, uint32_t kv_heads, uint32_t first, uint32_t count, const uint8_t* host, size_t stride) {
    each_run(layout, cache, kv_heads, first, [&](CudaAddress run, size_t at, size_t bytes) {
      run_.resize(bytes * count);
      for (size_t m = 0; m < count; ++m) std::memcpy(&run_[m * bytes], host + m * stride + at, bytes);
      device_.upload(run_.data(), run, bytes * count);
    });
  }

 private:
  // visit(where position `first` of a head lies, where that part begins among a position's bytes, the bytes of the part).
  template <class Visit>
  static void each_run(const KvLayout& layout, KvView cache, uint32_t kv_heads, uint32_t first, const Visit& visit) {
    size_t at = 0;
    const auto visit_part = [&](const uint8_t* data, uint64_t offset, uint32_t head, size_t bytes) {
      if (bytes == 0) return;
      visit(reinterpret_cast<CudaAddress>(data) + offset + (size_t{head} * cache.capacity + first) * bytes, at, bytes);
      at += bytes;
    };
    for (const uint8_t* data : {cache.keys, cache.values})
      for (uint32_t head = 0; head < kv_heads; ++head) {
        visit_part(data, 0, head, layout.number_bytes);
        visit_part(data, layout.scales_offset, head, layout.scale_bytes);
      }
  }

  CudaDevice& device_;
  std::vector<uint8_t> run_;  // positions of one head
};

}  // namespace shiftadd
