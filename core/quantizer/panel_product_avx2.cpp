// panel_product.h compiled for AVX2; panel_product.cpp calls it where the processor has it.
#include "core/quantizer/panel_tiles.h"

namespace shiftadd {

void add_product_avx2(const float* a, size_t a_stride, const float* b, size_t b_stride, size_t depth, float factor, float* c,
                      size_t c_stride, size_t height, size_t width) {
  product(a, a_stride, b, b_stride, depth, factor, c, c_stride, height, width);
}

void add_product_avx2(const double* a, size_t a_stride, const double* b, size_t b_stride, size_t depth, double factor,
                      double* c, size_t c_stride, size_t height, size_t width) {
  product(a, a_stride, b, b_stride, depth, factor, c, c_stride, height, width);
}

}  // namespace shiftadd
