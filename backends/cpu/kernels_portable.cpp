// Portable kernels: the ground truth that every other table must equal bit for bit (dense_tile excepted).
#include "backends/cpu/kernels.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/float_math.h"
#include "core/half.h"

namespace shiftadd {
namespace {

int32_t round_even(float value) {
  // Adding 1.5 * 2^23 leaves the value rounded to nearest even in the low mantissa bits.
  return std::bit_cast<int32_t>(value + 12582912.0f) - 0x4b400000;
}

float prepare(const float* x, uint32_t quads, Precision precision, int16_t* base) {
  float largest = 0, poison = 0;
  for (uint32_t chunk = 0; chunk < quads * 4; ++chunk) {
    const float* v = x + 4 * chunk;
    const float sum = (std::fabs(v[0]) + std::fabs(v[1])) + (std::fabs(v[2]) + std::fabs(v[3]));
    if (sum > largest) largest = sum;
    poison += sum * 0.0f;  // NaN where anything was not finite; a maximum would lose it
  }
  if (poison != 0) return poison;
  if (largest < kTinyRange) return 0;
  const float range = precision == Precision::exact ? kExactRange : kFastRange;
  const float inverse = range / largest;
  for (uint32_t chunk = 0; chunk < quads * 4; ++chunk) {
    const float* v = x + 4 * chunk;
    int16_t* entries = base + chunk / 4 * kQuadEntries + chunk % 4 * 8;
    for (uint32_t i = 0; i < 16; ++i) {
      const float first = (i & 1 ? v[0] : -v[0]) + (i & 2 ? v[1] : -v[1]);
      const float second = (i & 4 ? v[2] : -v[2]) + (i & 8 ? v[3] : -v[3]);
      entries[i / 8 * 32 + i % 8] = static_cast<int16_t>(round_even((first + second) * inverse));
    }
  }
  return largest / range;
}

// 64 low bytes [chunk][entry], then 64 high bytes. exact: entry + 2^15 is split into bytes; fast: low = entry & 15,
// high = entry >> 4, and plane 0 carries + 128 to keep plane sums unsigned.
void store_entry(int32_t entry, Precision precision, uint32_t plane, uint8_t* low) {
  if (precision == Precision::exact) {
    low[0] = static_cast<uint8_t>(entry);
    low[64] = static_cast<uint8_t>((entry + 32768) >> 8);
  } else {
    low[0] = static_cast<uint8_t>(entry & 15);
    low[64] = static_cast<uint8_t>((entry >> 4) + (plane == 0 ? 128 : 0));
  }
}

void build_tables(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                  const uint8_t*, LookupTables* tables) {
  for (uint32_t q = 0; q < quads; ++q)
    for (uint32_t p = 0; p < planes; ++p)
      for (uint32_t j = 0; j < 4; ++j)
        for (uint32_t i = 0; i < 16; ++i) {
          const int32_t b = base[q * kQuadEntries + i / 8 * 32 + j * 8 + i % 8], u = scales[(q * planes + p) * 2 + j / 2];
          store_entry((b * u + (1 << 14)) >> 15, precision, p, tables->bytes + (q * planes + p) * kTableBytes + j * 16 + i);
        }
}

float build_column_tables(const float* x, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                          LookupTables* tables) {
  const bool exact = precision == Precision::exact;
  float t[kMaxQuads][kMaxTablePlanes][16];
  float largest = 0, poison = 0;
  for (uint32_t q = 0; q < quads; ++q)
    for (uint32_t j = 0; j < 4; ++j) {
      float over_planes = 0;
      for (uint32_t p = 0; p < planes; ++p) {
        float* v = t[q][p] + 4 * j;
        for (uint32_t c = 0; c < 4; ++c) v[c] = x[q * 16 + 4 * j + c] * scales[(q * planes + p) * 16 + 4 * j + c];
        const float sum = (std::fabs(v[0]) + std::fabs(v[1])) + (std::fabs(v[2]) + std::fabs(v[3]));
        over_planes += sum;
        if (exact && sum > largest) largest = sum;
      }
      if (!exact && over_planes > largest) largest = over_planes;
      poison += over_planes * 0.0f;
    }
  if (poison != 0) return poison;
  if (largest < kTinyRange) return 0;
  const float range = exact ? kExactColumnRange : kFastColumnRange;
  const float inverse = range / largest;
  for (uint32_t q = 0; q < quads; ++q)
    for (uint32_t p = 0; p < planes; ++p)
      for (uint32_t j = 0; j < 4; ++j)
        for (uint32_t i = 0; i < 16; ++i) {
          int32_t entry = 0;
          for (uint32_t c = 0; c < 4; ++c) {
            const int32_t v = round_even(t[q][p][4 * j + c] * inverse);
            entry += i >> c & 1 ? v : -v;
          }
          store_entry(entry, precision, p, tables->bytes + (q * planes + p) * kTableBytes + j * 16 + i);
        }
  return largest / range;
}

void accumulate(const uint8_t* block, const uint8_t*, const LookupTables& tables, uint32_t quads, uint32_t planes,
                Precision precision, float s, float* y) {
  const bool exact = precision == Precision::exact;
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
          const bool biased = exact || p == 0;
          high_sum[r] += biased ? high[a] : static_cast<int8_t>(high[a]);
          high_sum[r + 16] += biased ? high[b] : static_cast<int8_t>(high[b]);
        }
    }
  const int32_t bias = static_cast<int32_t>(quads) * 4 * 128 * (exact ? static_cast<int32_t>(planes) : 1);
  for (uint32_t r = 0; r < 32; ++r) y[r] += s * static_cast<float>((high_sum[r] - bias) * (exact ? 256 : 16) + low_sum[r]);
}

float round_activations(const float* x, uint32_t columns, int16_t* out) {
  float largest = 0, poison = 0;
  for (uint32_t c = 0; c < columns; ++c) {
    largest = std::fabs(x[c]) > largest ? std::fabs(x[c]) : largest;
    poison += x[c] * 0.0f;
  }
  if (poison != 0) return poison;
  const bool tiny = largest < kTinyRange;
  const float inverse = tiny ? 0 : kPanelRange / largest;
  for (uint32_t c = 0; c < columns; ++c) out[c] = static_cast<int16_t>(round_even(x[c] * inverse));
  return tiny ? 0 : largest / kPanelRange;
}

void decode_panel(const uint8_t* blocks, const int16_t* scales, uint32_t quads, uint32_t planes, uint32_t group_columns,
                  int16_t* panel) {
  const uint32_t groups = 16 / group_columns;
  for (uint32_t q = 0; q < quads; ++q)
    for (uint32_t c = 0; c < 16; ++c)
      for (uint32_t r = 0; r < kPanelRows; ++r) {
        int32_t w = 0;
        for (uint32_t p = 0; p < planes; ++p) {
          const uint32_t nibble = blocks[(q * planes + p) * 64 + c / 4 * 16 + r % 16] >> (r / 16 * 4);
          const int16_t u = scales[(q * planes + p) * groups + c / group_columns];
          w += nibble >> c % 4 & 1 ? u : -u;
        }
        panel[(q * 8 + c / 2) * 2 * kPanelRows + 2 * r + c % 2] = static_cast<int16_t>(w);
      }
}

void panel_product(const int16_t* x, uint32_t tokens, const int16_t* panel, uint32_t columns,
                   const float* scale, float* y) {
  for (uint32_t m = 0; m < tokens; ++m)
    for (uint32_t r = 0; r < kPanelRows; ++r) {
      int32_t sum = 0;
      for (uint32_t c = 0; c < columns; ++c)
        sum += x[m * kPanelColumns + c] * panel[c / 2 * 2 * kPanelRows + 2 * r + c % 2];
      y[m * kPanelRows + r] += scale[m] * static_cast<float>(sum);
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

float element(const void* data, KvType type, size_t index) {
  return type == KvType::f32 ? static_cast<const float*>(data)[index]
                             : half_to_float(static_cast<const uint16_t*>(data)[index]);
}

void score_keys(const float* q, size_t q_stride, uint32_t rows, const void* keys, KvType type, uint32_t size,
                uint32_t panels, float scale, float* scores, size_t score_stride) {
  for (uint32_t m = 0; m < rows; ++m)
    for (uint32_t n = 0; n < panels; ++n)
      for (uint32_t j = 0; j < kKeyPanel; ++j) {
        float sum = 0;
        for (uint32_t d = 0; d < size; ++d)
          sum += q[m * q_stride + d] * element(keys, type, (size_t{n} * size + d) * kKeyPanel + j);
        scores[m * score_stride + n * kKeyPanel + j] = sum * scale;
      }
}

void weigh_values(const float* weights, size_t weight_stride, uint32_t rows, const void* values, KvType type,
                  uint32_t count, uint32_t size, float* out, size_t out_stride) {
  for (uint32_t m = 0; m < rows; ++m)
    for (uint32_t p = 0; p < count; ++p)
      for (uint32_t d = 0; d < size; ++d)
        out[m * out_stride + d] += weights[m * weight_stride + p] * element(values, type, size_t{p} * size + d);
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
  for (size_t i = 0; i < n; ++i) out[i] = half_to_float(half[i]);
}

void narrow_half(const float* in, uint16_t* half, size_t n) {
  for (size_t i = 0; i < n; ++i) half[i] = float_to_half(in[i]);
}

}  // namespace

const Kernels kKernelsPortable = {"portable",        prepare,      build_tables,  build_column_tables, accumulate,
                                  round_activations, decode_panel, panel_product, dot,                 score_keys,
                                  weigh_values,      exponentiate_loop, gate_loop, soft_cap_loop,      dense_tile,
                                  widen_half,       narrow_half};

}  // namespace shiftadd
