// Float functions that give the same bits on every compiler and machine: no library calls, no fused operations, sums in a
// fixed order. Plain loops that each kernel file compiles for its own instruction set; static, so that the linker cannot
// take the code of one file for another.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace shiftadd {

// e^x with a relative error below 3e-7; x is clamped to [-87, 88]. Cephes-style: x = n ln 2 + r, a polynomial in r.
static inline float exp_float(float x) {
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

static inline float silu(float x) { return x / (1.0f + exp_float(-x)); }

// gate[i] = silu(gate[i]) * up[i]
static inline void gate_loop(float* gate, const float* up, size_t n) {
  for (size_t i = 0; i < n; ++i) gate[i] = silu(gate[i]) * up[i];
}

// scores[i] = e^(scores[i] - largest); the sum in 16 lanes (i mod 16), then halves added. NaN scores stay NaN.
static inline float exponentiate_loop(float* scores, size_t n) {
  float largest[16], lanes[16] = {};
  for (size_t l = 0; l < 16; ++l) largest[l] = scores[0];
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (size_t l = 0; l < 16; ++l) largest[l] = scores[i + l] > largest[l] ? scores[i + l] : largest[l];
  for (; i < n; ++i) largest[0] = scores[i] > largest[0] ? scores[i] : largest[0];
  float most = largest[0];
  for (size_t l = 1; l < 16; ++l) most = largest[l] > most ? largest[l] : most;
  for (i = 0; i + 16 <= n; i += 16)
    for (size_t l = 0; l < 16; ++l) {
      scores[i + l] = exp_float(scores[i + l] - most);
      lanes[l] += scores[i + l];
    }
  for (size_t l = 0; i + l < n; ++l) {
    scores[i + l] = exp_float(scores[i + l] - most);
    lanes[l] += scores[i + l];
  }
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  return lanes[0];
}

}  // namespace shiftadd
