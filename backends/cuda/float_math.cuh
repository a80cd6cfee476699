// The functions of core/float_math.h on the device, operation by operation, so that both give the same bits: kernels are
// compiled without contraction (-fmad=false). NVRTC has no standard headers, which that file needs.
#pragma once

#include "backends/cuda/device.cuh"

namespace shiftadd_cuda {

DEVICE float exp_float(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float rounded = x * 1.44269504f + 12582912.0f;
  const int32 n = (int32)(bits_of(rounded) - 0x4b400000u);
  const float nf = rounded - 12582912.0f;
  const float r = (x - nf * 0.693359375f) + nf * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * float_of((uint32)(n + 127) << 23);
}

DEVICE float silu(float x) { return divide(x, 1.0f + exp_float(-x)); }

DEVICE float gelu_tanh(float x) {
  return divide(x, 1.0f + exp_float(-1.59576912f * (x + 0.044715f * (x * x) * x)));
}

DEVICE float gelu(float x) {
  const float z = (x < 0 ? -x : x) * 0.70710678f, t = divide(1.0f, 1.0f + 0.3275911f * z);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const float tail = 0.5f * (p * t) * exp_float(-(z * z));
  return x < 0 ? x * tail : x - x * tail;
}

DEVICE float relu(float x) { return x > 0 ? x : x != x ? x : 0.0f; }

DEVICE float tanh_float(float x) {
  const float s = x * x;
  const float series = x + x * s * (-0.33333333f + s * (0.13333333f + s * (-0.053968254f + s * 0.021869489f)));
  const float whole = 1.0f - divide(2.0f, exp_float(2.0f * x) + 1.0f);
  return s < 0.0625f ? series : whole;
}

// kind: Activation of core/float_math.h.
DEVICE float activation(uint32 kind, float x) {
  return kind == 0 ? silu(x) : kind == 1 ? gelu_tanh(x) : kind == 2 ? gelu(x) : relu(x);
}

}  // namespace shiftadd_cuda
