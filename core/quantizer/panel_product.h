// The one matrix product of the quantizer: every O(rows * columns^2) step (lazy compensation, E H, the Cholesky factor)
// is a call of it.
#pragma once

#include <cstddef>

namespace shiftadd {

// C[i][j] += factor * sum over k < depth of A[k][i] * B[k][j], for i < height, j < width.
// All row-major; strides in elements; width is a multiple of kPanelAlign. C must not overlap A or B.
void add_product(const float* a, size_t a_stride, const float* b, size_t b_stride, size_t depth, float factor, float* c,
                 size_t c_stride, size_t height, size_t width);
void add_product(const double* a, size_t a_stride, const double* b, size_t b_stride, size_t depth, double factor,
                 double* c, size_t c_stride, size_t height, size_t width);

}  // namespace shiftadd
