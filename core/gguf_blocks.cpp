#include "core/gguf_blocks.h"

#include "core/half.h"

namespace shiftadd {
namespace {

float half_at(const uint8_t* bytes) {
  return half_to_float(static_cast<uint16_t>(bytes[0] | bytes[1] << 8));
}

// ---- 32 elements: d, sometimes m, sometimes fifth bits, then nibbles: the low ones are the first 16 elements ----

constexpr uint32_t kNibbles = 16;

int nibble(const uint8_t* packed, uint32_t i) { return i < kNibbles ? packed[i] & 15 : packed[i - kNibbles] >> 4; }

int fifth_bit(const uint8_t* bits, uint32_t i) { return (bits[i / 8] >> (i % 8) & 1) << 4; }

void decode_q8_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  for (uint32_t i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * d;
}

void decode_q4_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  for (uint32_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble(block + 2, i) - 8);
}

void decode_q4_1(const uint8_t* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  for (uint32_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble(block + 4, i)) + m;
}

void decode_q5_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  for (uint32_t i = 0; i < 32; ++i)
    out[i] = d * static_cast<float>((nibble(block + 6, i) | fifth_bit(block + 2, i)) - 16);
}

void decode_q5_1(const uint8_t* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  for (uint32_t i = 0; i < 32; ++i)
    out[i] = d * static_cast<float>(nibble(block + 8, i) | fifth_bit(block + 4, i)) + m;
}

void decode_iq4_nl(const uint8_t* block, float* out) {
  constexpr int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const float d = half_at(block);
  for (uint32_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(kValues[nibble(block + 2, i)]);
}

// ---- 256 elements in sub-blocks of 16 or 32 with quantized scales ----

constexpr uint32_t kSuper = 256;

// Two bits each: bytes of a half serve 4 runs of 32 elements.
int two_bits(const uint8_t* packed, uint32_t i) { return packed[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3; }
// Four bits each: 32 bytes serve 2 runs of 32 elements.
int four_bits(const uint8_t* packed, uint32_t i) { return packed[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15; }
// One bit each: 32 bytes serve 8 runs of 32 elements.
int one_bit(const uint8_t* packed, uint32_t i) { return packed[i % 32] >> (i / 32) & 1; }

void decode_q2_k(const uint8_t* block, float* out) {
  const float d = half_at(block + 80), d_min = half_at(block + 82);
  for (uint32_t i = 0; i < kSuper; ++i) {
    const uint8_t scale = block[i / 16];
    out[i] = d * static_cast<float>(scale & 15) * static_cast<float>(two_bits(block + 16, i)) -
             d_min * static_cast<float>(scale >> 4);
  }
}

void decode_q3_k(const uint8_t* block, float* out) {
  const uint8_t *high = block, *low = block + 32, *scales = block + 96;
  const float d = half_at(block + 108);
  float factors[16];
  for (uint32_t s = 0; s < 16; ++s) {
    const int lower = scales[s % 8] >> (s / 8 * 4) & 15, upper = scales[8 + s % 4] >> (s / 4 * 2) & 3;
    factors[s] = d * static_cast<float>((lower | upper << 4) - 32);
  }
  for (uint32_t i = 0; i < kSuper; ++i)
    out[i] = factors[i / 16] * static_cast<float>(two_bits(low, i) - (one_bit(high, i) ? 0 : 4));
}

// Six bits each for 8 scales and 8 minima in 12 bytes.
void scales_and_minima(const uint8_t* packed, int* scales, int* minima) {
  for (uint32_t i = 0; i < 4; ++i) {
    scales[i] = packed[i] & 63;
    minima[i] = packed[4 + i] & 63;
    scales[4 + i] = (packed[8 + i] & 15) | (packed[i] >> 2 & 48);
    minima[4 + i] = packed[8 + i] >> 4 | (packed[4 + i] >> 2 & 48);
  }
}

void decode_q4_k(const uint8_t* block, float* out) {
  const float d = half_at(block), d_min = half_at(block + 2);
  int scales[8], minima[8];
  scales_and_minima(block + 4, scales, minima);
  for (uint32_t i = 0; i < kSuper; ++i)
    out[i] = d * static_cast<float>(scales[i / 32]) * static_cast<float>(four_bits(block + 16, i)) -
             d_min * static_cast<float>(minima[i / 32]);
}

void decode_q5_k(const uint8_t* block, float* out) {
  const float d = half_at(block), d_min = half_at(block + 2);
  int scales[8], minima[8];
  scales_and_minima(block + 4, scales, minima);
  for (uint32_t i = 0; i < kSuper; ++i)
    out[i] = d * static_cast<float>(scales[i / 32]) * static_cast<float>(four_bits(block + 48, i) | one_bit(block + 16, i) << 4) -
             d_min * static_cast<float>(minima[i / 32]);
}

void decode_q6_k(const uint8_t* block, float* out) {
  const uint8_t *low = block, *high = block + 128, *scales = block + 192;
  const float d = half_at(block + 208);
  for (uint32_t i = 0; i < kSuper; ++i) {
    const int lower = low[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
    out[i] = d * static_cast<float>(static_cast<int8_t>(scales[i / 16])) *
             static_cast<float>((lower | two_bits(high, i) << 4) - 32);
  }
}

}  // namespace

void decode_blocks(DType dtype, const uint8_t* blocks, size_t count, float* out) {
  using Decode = void (*)(const uint8_t*, float*);
  constexpr Decode kDecoders[kDTypeCount] = {nullptr, nullptr, nullptr, decode_q8_0, decode_q4_0, decode_q4_1, decode_q5_0,
                                             decode_q5_1, decode_q2_k, decode_q3_k, decode_q4_k, decode_q5_k, decode_q6_k,
                                             decode_iq4_nl};
  const BlockFormat& format = format_of(dtype);
  const Decode decode = kDecoders[static_cast<size_t>(dtype)];
  for (size_t b = 0; b < count; ++b) decode(blocks + b * format.bytes, out + b * format.values);
}

}  // namespace shiftadd
