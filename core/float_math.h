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

enum class Activation : uint32_t { silu = 0, gelu_tanh = 1, gelu = 2, relu = 3 };
constexpr uint32_t kActivationCount = 4;

static inline float silu(float x) { return x / (1.0f + exp_float(-x)); }

// 0.5 x (1 + tanh(u)) with u = sqrt(2 / pi) (x + 0.044715 x^3), written as x / (1 + e^(-2u)). Source: arXiv 1606.08415.
static inline float gelu_tanh(float x) {
  return x / (1.0f + exp_float(-1.59576912f * (x + 0.044715f * (x * x) * x)));
}

// 0.5 x (1 + erf(x / sqrt(2))); erf to 1.5e-7, Abramowitz and Stegun 7.1.26.
static inline float gelu(float x) {
  const float z = (x < 0 ? -x : x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * z);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const float tail = 0.5f * (p * t) * exp_float(-(z * z));  // of the normal distribution, beyond |x|
  return x < 0 ? x * tail : x - x * tail;
}

static inline float relu(float x) { return x > 0 ? x : x != x ? x : 0.0f; }

// Relative error below 1e-6: small values by their series.
static inline float tanh_float(float x) {
  const float s = x * x;
  const float series = x + x * s * (-0.33333333f + s * (0.13333333f + s * (-0.053968254f + s * 0.021869489f)));
  const float whole = 1.0f - 2.0f / (exp_float(2.0f * x) + 1.0f);
  return s < 0.0625f ? series : whole;
}

// gate[i] = f(gate[i]) * up[i], or f(gate[i]) where `up` is null
template <typename Function>
static inline void apply_loop(Function f, float* gate, const float* up, size_t n) {
  if (up == nullptr) for (size_t i = 0; i < n; ++i) gate[i] = f(gate[i]);
  else for (size_t i = 0; i < n; ++i) gate[i] = f(gate[i]) * up[i];
}

static inline void gate_loop(Activation activation, float* gate, const float* up, size_t n) {
  switch (activation) {
    case Activation::silu: return apply_loop([](float x) { return silu(x); }, gate, up, n);
    case Activation::gelu_tanh: return apply_loop([](float x) { return gelu_tanh(x); }, gate, up, n);
    case Activation::gelu: return apply_loop([](float x) { return gelu(x); }, gate, up, n);
    case Activation::relu: return apply_loop([](float x) { return relu(x); }, gate, up, n);
  }
}

static inline void soft_cap_loop(float* x, size_t n, float cap) {
  for (size_t i = 0; i < n; ++i) x[i] = cap * tanh_float(x[i] / cap);
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
