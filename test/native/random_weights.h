// Random weights and activations like those of language models, for tests of the quantizer.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace shiftadd {

// Small reproducible generator: the standard distributions differ between libraries.
struct Random {
  uint64_t state = 1;
  double uniform() {
    state += 0x9e3779b97f4a7c15u;  // splitmix64
    uint64_t bits = (state ^ state >> 30) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebu;
    return (static_cast<double>((bits ^ bits >> 31) >> 11) + 0.5) * 0x1p-53;
  }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }
};

// Normal weights, rows and columns of different size, one in a hundred six times as large.
inline std::vector<float> heavy_weights(uint32_t rows, uint32_t columns, uint64_t seed) {
  Random random{seed};
  std::vector<double> column_size(columns);
  for (double& size : column_size) size = std::exp(0.3 * random.normal());
  std::vector<float> weights;
  for (uint32_t r = 0; r < rows; ++r) {
    const double row_size = 0.05 * std::exp(0.5 * random.normal());
    for (uint32_t c = 0; c < columns; ++c) {
      const double tail = random.uniform() < 0.01 ? 6 : 1;
      weights.push_back(static_cast<float>(row_size * column_size[c] * tail * random.normal()));
    }
  }
  return weights;
}

// Second moment of `samples` activations that mix a few shared factors with noise of each column's own.
inline std::vector<float> correlated_hessian(uint32_t columns, uint32_t samples, uint64_t seed, double noise = 0.3) {
  Random random{seed};
  const uint32_t factors = columns / 4 + 1;
  std::vector<double> mix(size_t{factors} * columns);
  for (size_t n = 0; n < mix.size(); ++n) mix[n] = random.normal() / (1 + static_cast<double>(n / columns));
  std::vector<double> sum(size_t{columns} * columns), x(columns);
  for (uint32_t s = 0; s < samples; ++s) {
    for (double& value : x) value = noise * random.normal();
    for (uint32_t f = 0; f < factors; ++f) {
      const double strength = random.normal();
      for (uint32_t c = 0; c < columns; ++c) x[c] += strength * mix[size_t{f} * columns + c];
    }
    for (uint32_t i = 0; i < columns; ++i) {
      for (uint32_t j = 0; j < columns; ++j) sum[size_t{i} * columns + j] += x[i] * x[j] / samples;
    }
  }
  return {sum.begin(), sum.end()};
}

}  // namespace shiftadd
