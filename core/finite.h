// Whether numbers are finite, as an integer reduction that compilers vectorise.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

namespace shiftadd {

inline bool all_finite(std::span<const float> values) {
  uint32_t bad = 0;
  for (const float& value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bad += (bits & 0x7f800000) == 0x7f800000;
  }
  return bad == 0;
}

}  // namespace shiftadd
