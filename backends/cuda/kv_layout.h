// One layer's cached keys, or its values, on the device: numbers, and behind them the scales of the 8-bit cache. What belongs to a
// position lies at (head * capacity + position) * number_bytes, and at scales_offset + (head * capacity + position) * scale_bytes.
#pragma once

#include <cstdint>

#include "backends/cpu/kernels.h"
#include "backends/cuda/parameters.h"

namespace shiftadd {

struct KvLayout {
  KvLayout(KvType type, uint32_t kv_heads, uint32_t head_size, uint32_t capacity)
      : number_bytes(head_size * (type == KvType::f32 ? 4 : type == KvType::f16 ? 2 : 1)),
        scale_bytes(type == KvType::int8 ? (head_size + shiftadd_cuda::kScaleGroup - 1) / shiftadd_cuda::kScaleGroup * 2 : 0) {
    const uint64_t lines = uint64_t{kv_heads} * capacity;
    scales_offset = lines * number_bytes;
    bytes = scales_offset;
    if (type != KvType::int8) return;
    // Whole loads of 16 bytes, so that the next layer begins at one.
    const auto padded = [](uint64_t count) { return (count + 15) / 16 * 16; };
    scales_offset = padded(scales_offset);
    bytes = padded(scales_offset + lines * scale_bytes);
  }

  // Of one position as it is saved, keys and values.
  uint64_t position_bytes(uint32_t kv_heads) const { return uint64_t{2} * kv_heads * (number_bytes + scale_bytes); }

  uint32_t number_bytes, scale_bytes;  // of one head at one position
  uint64_t scales_offset, bytes;
};

}  // namespace shiftadd
