// Float functions that give the same bits on every compiler and machine: no library calls, no fused operations.
#pragma once

#include <bit>
#include <cstdint>

namespace shiftadd {

// e^x with a relative error below 3e-7; x is clamped to [-87, 88]. Cephes-style: x = n ln 2 + r, a polynomial in r.
inline float exp_float(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float rounded = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the integer part lands in the low bits
  const int32_t n = std::bit_cast<int32_t>(rounded) - 0x4b400000;
  const float nf = rounded - 12582912.0f;
  const float r = (x - nf * 0.693359375f) + nf * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * std::bit_cast<float>((n + 127) << 23);
}

inline float silu(float x) { return x / (1.0f + exp_float(-x)); }

}  // namespace shiftadd
