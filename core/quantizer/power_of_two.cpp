// Least squares and compensated rounding of the scales of one group; see power_of_two.h.
#include "core/quantizer/power_of_two.h"

#include <cmath>
#include <utility>

namespace shiftadd {
namespace {

// Share of the mean diagonal: far below the rounding of four terms (0.14 % rms), enough for two planes with equal
// signs.
constexpr double kRidge = 1e-6;

}  // namespace

void ScaleSet::set(uint32_t plane, float value, const ScaleGrid& grid) {
  codes[plane] = value > 0 ? encode_scale(value, grid.exponent, grid.terms) : uint16_t{0};
  values[plane] = decode_scale(codes[plane], grid.exponent);
}

void ScaleSet::sort() {
  for (uint32_t i = 1; i < planes; ++i) {
    for (uint32_t l = i; l > 0 && values[l] > values[l - 1]; --l) {
      std::swap(values[l], values[l - 1]);
      std::swap(codes[l], codes[l - 1]);
    }
  }
}

bool ScaleSet::same_codes(const ScaleSet& other) const {
  for (uint32_t i = 0; i < planes; ++i) {
    if (codes[i] != other.codes[i]) return false;
  }
  return planes == other.planes;
}

double ScaleSystem::loss(const float* values, uint32_t planes) const {
  double sum = 0;
  for (uint32_t i = 0; i < planes; ++i) {
    double row = matrix[i][i] * values[i];
    for (uint32_t l = 0; l < i; ++l) row += 2 * matrix[i][l] * values[l];
    sum += values[i] * (row - 2 * target[i]);
  }
  return sum;
}

ScaleSet solve_scales(const ScaleSystem& system, uint32_t planes, const ScaleGrid& grid, uint32_t* flipped) {
  // Cholesky factor with the planes in reverse order: substitution then starts at plane 0, the largest scale and thus
  // the largest rounding error, and every later scale is the best one given the roundings before it.
  double factor[kMaxPlanes][kMaxPlanes];
  double partial[kMaxPlanes];
  double trace = 0;
  for (uint32_t i = 0; i < planes; ++i) trace += system.matrix[i][i];
  const double ridge = kRidge * trace / planes;
  for (uint32_t i = 0; i < planes; ++i) {
    const uint32_t from = planes - 1 - i;
    for (uint32_t l = 0; l <= i; ++l) {
      const uint32_t to = planes - 1 - l;  // to >= from: the stored half
      double sum = system.matrix[to][from] + (i == l ? ridge : 0);
      for (uint32_t k = 0; k < l; ++k) sum -= factor[i][k] * factor[l][k];
      if (i == l) {
        factor[i][i] = std::sqrt(sum > ridge * 1e-3 ? sum : ridge * 1e-3);
      } else {
        factor[i][l] = sum / factor[l][l];
      }
    }
    double sum = system.target[from];
    for (uint32_t k = 0; k < i; ++k) sum -= factor[i][k] * partial[k];
    partial[i] = factor[i][i] > 0 ? sum / factor[i][i] : 0;
  }
  ScaleSet scales;
  scales.planes = planes;
  *flipped = 0;
  double rounded[kMaxPlanes];
  for (uint32_t i = planes; i-- > 0;) {
    const uint32_t plane = planes - 1 - i;
    double sum = partial[i];
    for (uint32_t k = i + 1; k < planes; ++k) sum -= factor[k][i] * rounded[k];
    const double exact = factor[i][i] > 0 ? sum / factor[i][i] : 0;
    scales.set(plane, static_cast<float>(std::fabs(exact)), grid);
    if (exact < 0) *flipped |= 1u << plane;
    rounded[i] = exact < 0 ? -static_cast<double>(scales.values[plane]) : scales.values[plane];
  }
  return scales;
}

}  // namespace shiftadd
