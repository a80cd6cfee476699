#include "core/tensor.h"

#include <cstring>
#include <vector>

#include "core/gguf_blocks.h"
#include "core/half.h"

namespace shiftadd {
namespace {

float element(const DenseMatrix& matrix, uint64_t index) {
  if (matrix.dtype == DType::f32) return static_cast<const float*>(matrix.data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(matrix.data)[index];
  return matrix.dtype == DType::f16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

}  // namespace

void read_part(const DenseMatrix& matrix, uint32_t row, uint32_t first, uint32_t count, float* out) {
  const uint64_t stored = matrix.map.stored(row);
  if (matrix.transposed) {
    for (uint32_t c = 0; c < count; ++c) out[c] = element(matrix, uint64_t{first + c} * matrix.stored_columns + stored);
    return;
  }
  const uint64_t start = stored * matrix.stored_columns + first;
  const BlockFormat& format = format_of(matrix.dtype);
  if (format.values == 1) {
    if (matrix.dtype == DType::f32) std::memcpy(out, static_cast<const float*>(matrix.data) + start, count * sizeof(float));
    else for (uint32_t c = 0; c < count; ++c) out[c] = element(matrix, start + c);
    return;
  }
  const auto* blocks = static_cast<const uint8_t*>(matrix.data) + stored * row_bytes(matrix.dtype, matrix.stored_columns);
  if (first == 0 && count == matrix.columns) return decode_blocks(matrix.dtype, blocks, count / format.values, out);
  float block[256];
  for (uint32_t c = 0; c < count;) {
    const uint32_t index = (first + c) / format.values, offset = (first + c) % format.values;
    const uint32_t length = count - c < format.values - offset ? count - c : format.values - offset;
    decode_blocks(matrix.dtype, blocks + size_t{index} * format.bytes, 1, block);
    std::memcpy(out + c, block + offset, length * sizeof(float));
    c += length;
  }
}

void read_row(const DenseMatrix& matrix, uint32_t row, float* out) { read_part(matrix, row, 0, matrix.columns, out); }

}  // namespace shiftadd
