#include "core/quantizer/panel_product.h"

#include "core/quantizer/panel_tiles.h"

namespace shiftadd {

#if defined(SHIFTADD_PANEL_AVX2)
// In panel_product_avx2.cpp.
void add_product_avx2(const float* a, size_t a_stride, const float* b, size_t b_stride, size_t depth, float factor, float* c,
                      size_t c_stride, size_t height, size_t width);
void add_product_avx2(const double* a, size_t a_stride, const double* b, size_t b_stride, size_t depth, double factor,
                      double* c, size_t c_stride, size_t height, size_t width);
#endif

namespace {

template <typename T>
void best_product(const T* a, size_t a_stride, const T* b, size_t b_stride, size_t depth, T factor, T* c, size_t c_stride,
                  size_t height, size_t width) {
#if defined(SHIFTADD_PANEL_AVX2)
  static const bool avx2 = (__builtin_cpu_init(), __builtin_cpu_supports("avx2"));
  if (avx2) return add_product_avx2(a, a_stride, b, b_stride, depth, factor, c, c_stride, height, width);
#endif
  product(a, a_stride, b, b_stride, depth, factor, c, c_stride, height, width);
}

}  // namespace

void add_product(const float* a, size_t a_stride, const float* b, size_t b_stride, size_t depth, float factor, float* c,
                 size_t c_stride, size_t height, size_t width) {
  best_product(a, a_stride, b, b_stride, depth, factor, c, c_stride, height, width);
}

void add_product(const double* a, size_t a_stride, const double* b, size_t b_stride, size_t depth, double factor,
                 double* c, size_t c_stride, size_t height, size_t width) {
  best_product(a, a_stride, b, b_stride, depth, factor, c, c_stride, height, width);
}

}  // namespace shiftadd
