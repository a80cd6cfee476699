// Portable kernels: the ground truth that every other table must equal bit for bit (dense_tile excepted).
#include "backends/cpu/kernels.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace shiftadd {
namespace {

constexpr uint32_t kColumns = kMaxQuads * 16;

int32_t round_even(float value) {
  // Adding 1.5 * 2^23 leaves the value rounded to nearest even in the low mantissa bits.
  return std::bit_cast<int32_t>(value + 12582912.0f) - 0x4b400000;
}

float build_tables(const float* x, const float* scales, size_t scale_stride, uint32_t quads, uint32_t planes,
                   uint32_t group_columns, Precision precision, LookupTables* tables) {
  const uint32_t columns = quads * 16, chunks = quads * 4;
  float t[kMaxTablePlanes][kColumns];
  for (uint32_t p = 0; p < planes; ++p)
    for (uint32_t c = 0; c < columns; ++c) t[p][c] = scales[p * scale_stride + c / group_columns] * x[c];

  float largest = 0, poison = 0;
  for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
    float over_planes = 0;
    for (uint32_t p = 0; p < planes; ++p) {
      const float* v = t[p] + 4 * chunk;
      const float sum = (std::fabs(v[0]) + std::fabs(v[1])) + (std::fabs(v[2]) + std::fabs(v[3]));
      over_planes += sum;
      if (precision == Precision::exact && sum > largest) largest = sum;
    }
    if (precision == Precision::fast && over_planes > largest) largest = over_planes;
    poison += over_planes * 0.0f;  // NaN where anything was not finite; a maximum would lose it
  }
  if (poison != 0) return poison;
  if (largest < kTinyRange) return 0;
  const float range = precision == Precision::exact ? kExactRange : kFastRange;
  const float inverse = range / largest;

  for (uint32_t q = 0; q < quads; ++q)
    for (uint32_t p = 0; p < planes; ++p) {
      uint8_t* low = tables->bytes + (q * planes + p) * kTableBytes;
      uint8_t* high = low + 64;
      for (uint32_t j = 0; j < 4; ++j) {
        int32_t v[4];
        for (uint32_t c = 0; c < 4; ++c) v[c] = round_even(t[p][q * 16 + j * 4 + c] * inverse);
        for (uint32_t i = 0; i < 16; ++i) {
          int32_t entry = 0;
          for (uint32_t c = 0; c < 4; ++c) entry += i >> c & 1 ? v[c] : -v[c];
          if (precision == Precision::exact) {
            low[j * 16 + i] = static_cast<uint8_t>(entry);
            high[j * 16 + i] = static_cast<uint8_t>((entry + 32768) >> 8);
          } else {
            low[j * 16 + i] = static_cast<uint8_t>(entry & 63);
            high[j * 16 + i] = static_cast<uint8_t>((entry >> 6) + (p == 0 ? 128 : 0));
          }
        }
      }
    }
  return largest / range;
}

void accumulate(const uint8_t* blocks, size_t tile_stride, const LookupTables& tables, uint32_t quads, uint32_t planes,
                uint32_t tiles, Precision precision, float s, float* y) {
  for (uint32_t tile = 0; tile < tiles; ++tile, y += 32) {
    const uint8_t* block = blocks + tile * tile_stride;
    int32_t low_sum[32] = {}, high_sum[32] = {};
    for (uint32_t q = 0; q < quads; ++q)
      for (uint32_t p = 0; p < planes; ++p, block += 64) {
        const uint8_t* low = tables.bytes + (q * planes + p) * kTableBytes;
        const uint8_t* high = low + 64;
        for (uint32_t j = 0; j < 4; ++j)
          for (uint32_t r = 0; r < 16; ++r) {
            const uint32_t byte = block[16 * j + r], a = 16 * j + (byte & 15), b = 16 * j + (byte >> 4);
            low_sum[r] += low[a];
            low_sum[r + 16] += low[b];
            // In fast precision only plane 0 carries the bias that makes the byte unsigned.
            const bool biased = precision == Precision::exact || p == 0;
            high_sum[r] += biased ? high[a] : static_cast<int8_t>(high[a]);
            high_sum[r + 16] += biased ? high[b] : static_cast<int8_t>(high[b]);
          }
      }
    const bool exact = precision == Precision::exact;
    const int32_t bias = static_cast<int32_t>(quads) * 4 * 128 * (exact ? static_cast<int32_t>(planes) : 1);
    for (uint32_t r = 0; r < 32; ++r)
      y[r] += s * static_cast<float>((high_sum[r] - bias) * (exact ? 256 : 64) + low_sum[r]);
  }
}

float dot(const float* a, const float* b, size_t n) {
  float lanes[16] = {};
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (size_t l = 0; l < 16; ++l) lanes[l] += a[i + l] * b[i + l];
  for (size_t l = 0; i + l < n; ++l) lanes[l] += a[i + l] * b[i + l];
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  return lanes[0];
}

void axpy(float a, const float* x, float* y, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void dense_tile(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y,
                size_t y_stride) {
  for (uint32_t m = 0; m < rows; ++m) {
    float sum[16] = {};
    for (uint32_t i = 0; i < k; ++i)
      for (uint32_t j = 0; j < 16; ++j) sum[j] += x[m * x_stride + i] * panel[size_t{i} * 16 + j];
    std::memcpy(y + m * y_stride, sum, sizeof sum);
  }
}

void widen_half(const uint16_t* half, float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t h = half[i], sign = (h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    uint32_t bits;
    if (exponent == 31) bits = 0x7f800000 | mantissa << 13;
    else if (exponent != 0) bits = (exponent + 112) << 23 | mantissa << 13;
    else bits = std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f);
    out[i] = std::bit_cast<float>(sign | bits);
  }
}

}  // namespace

const Kernels kKernelsPortable = {"portable", build_tables, accumulate, dot, axpy, dense_tile, widen_half};

}  // namespace shiftadd
