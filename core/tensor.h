// Element types and a non-owning view of a dense matrix in a file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shiftadd {

// How the elements of a stored tensor are written. From q8_0 on: blocks along a row, as GGUF has them (core/gguf_blocks.h).
enum class DType : uint32_t {
  f32 = 0, f16 = 1, bf16 = 2, q8_0 = 3, q4_0 = 4, q4_1 = 5, q5_0 = 6, q5_1 = 7, q2_k = 8, q3_k = 9, q4_k = 10, q5_k = 11,
  q6_k = 12, iq4_nl = 13,
};
constexpr uint32_t kDTypeCount = 14;

// A row is a whole number of blocks of `values` elements in `bytes` bytes, aligned to `alignment`.
struct BlockFormat {
  uint32_t values, bytes, alignment;
};
constexpr BlockFormat kBlockFormats[kDTypeCount] = {
    {1, 4, 4}, {1, 2, 2}, {1, 2, 2}, {32, 34, 1}, {32, 18, 1}, {32, 20, 1}, {32, 22, 1},
    {32, 24, 1}, {256, 84, 1}, {256, 110, 1}, {256, 144, 1}, {256, 176, 1}, {256, 210, 1}, {32, 18, 1}};

constexpr const BlockFormat& format_of(DType dtype) { return kBlockFormats[static_cast<size_t>(dtype)]; }
constexpr uint64_t row_bytes(DType dtype, uint64_t columns) {
  return columns / format_of(dtype).values * format_of(dtype).bytes;
}

// Which stored rows are the rows of a matrix: row (a * middle + b) * inner + c is stored row
// first + a * outer_stride + b * middle_stride + c * inner_stride. By default row r is stored row r.
struct RowMap {
  uint32_t first = 0, inner = 1, inner_stride = 0, middle = 1, middle_stride = 0, outer_stride = 1;

  uint64_t stored(uint32_t row) const {
    const uint32_t c = row % inner, b = row / inner % middle, a = row / inner / middle;
    return first + uint64_t{a} * outer_stride + uint64_t{b} * middle_stride + uint64_t{c} * inner_stride;
  }
};

// A matrix inside a stored tensor: all of it, some of its rows in another order, or its transpose.
struct DenseMatrix {
  DType dtype = DType::f32;
  uint32_t rows = 0;
  uint32_t columns = 0;
  const void* data = nullptr;   // the stored tensor, row-major
  RowMap map;
  bool transposed = false;      // the rows of the matrix are columns of the stored tensor; not for blocks
  uint32_t stored_columns = 0;  // of the stored tensor
};

// Widens one row; exact.
void read_row(const DenseMatrix& matrix, uint32_t row, float* out);
// The same of columns [first, first + count).
void read_part(const DenseMatrix& matrix, uint32_t row, uint32_t first, uint32_t count, float* out);

}  // namespace shiftadd
