// One row group on its way through the quantizer: the unit of parallel work. Nothing is shared between row groups but
// the Hessian, so results cannot depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/quantizer/binary_coding.h"
#include "core/quantizer/hessian.h"

namespace shiftadd {

struct RowGroup {
  uint32_t first_row = 0;
  uint32_t rows = 0;
  size_t padded = 0;                // rows rounded up to kPanelAlign; padding rows have importance 0
  std::vector<float> row_scales;    // [padded], exact half floats; 0 in rows of zeros and in padding
  std::vector<float> importance;    // [padded]: squared row scale, the weight of a row's error after normalising
  std::vector<float> weights;       // [column in quantization order][padded]: the matrix, transposed
  std::vector<uint8_t> codes;       // same shape
  std::vector<ScaleSet> scales;     // [bundle in quantization order]

  uint8_t* code_column(size_t index) { return codes.data() + index * padded; }
};

// Root mean square of a row: the row scale before any fit.
float row_rms(const float* row, uint32_t columns);

// Power of two that brings the largest row scale into [1, 2): rows down to 2^-14 of it keep all bits of a half float.
float row_scale_unit(float largest);

// Gathers rows [first_row, first_row + rows) of `matrix`; `row_scales` covers all rows of the matrix.
RowGroup load_row_group(const float* matrix, const Hessian& hessian, uint32_t first_row, uint32_t rows,
                        const float* row_scales);

// What the codes and scales of a group express, with row scales: [column in quantization order][padded].
void expand_row_group(const RowGroup& group, const Hessian& hessian, std::vector<float>* panel);

// panel_h = panel * H; both [column in quantization order][padded].
void multiply_hessian(const std::vector<float>& panel, const Hessian& hessian, size_t padded,
                      std::vector<float>* panel_h);

// Normal equations of the scales of one bundle with signs fixed: with s the signs of `codes` ([width][padded]), metric
// a symmetric width x width matrix (row stride kMaxBundle) and pull [width][padded],
//   matrix[i][l] = sum over rows of importance * s_i' metric s_l, target[i] = sum of importance * s_i' pull.
constexpr size_t kMaxBundle = 8;
ScaleSystem bundle_system(const uint8_t* codes, size_t width, size_t padded, uint32_t planes, const float* importance,
                          const float* metric, const float* pull, std::vector<float>* scratch);

}  // namespace shiftadd
