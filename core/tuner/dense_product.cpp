#include "core/tuner/dense_product.h"

#include <algorithm>
#include <cstring>

#include "core/half.h"
#include "core/tuner/dense_product_tile.h"

namespace shiftadd {

#if defined(SHIFTADD_PRODUCT_X86)
// In dense_product_avx2.cpp and dense_product_avx512.cpp.
void product_tile_avx2(const float* a, const float* b, size_t depth, float* c, size_t c_stride);
void product_tile_avx512(const float* a, const float* b, size_t depth, float* c, size_t c_stride);
#endif

namespace {

constexpr size_t kLargestTile = 12 * 32;
// Depth of one pass over a tile: a panel of B (32 KiB at 32 columns, 16 KiB at 16) stays in the level-1 cache.
constexpr size_t kDepth = 256;
// Depth and number of floats of B that are packed at once (8 MiB).
constexpr size_t kSliceDepth = 4 * kDepth;
constexpr size_t kSliceFloats = size_t{2} << 20;
// Tile of C of one item of parallel work; multiples of every kernel's height and width. The panels of A of one pass
// (96 KiB) stay in the level-2 cache.
constexpr size_t kItemRows = 96;
constexpr size_t kItemColumns = 256;

size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

struct FromFloat {
  typedef float Stored;
  static float widen(float value) { return value; }
};
struct FromHalf {
  typedef uint16_t Stored;
  static float widen(uint16_t value) { return half_to_float(value); }
};
struct FromBfloat16 {
  typedef uint16_t Stored;
  static float widen(uint16_t value) { return bfloat16_to_float(value); }
};

// Copies `count` (at most `width`) lines of `depth` elements into out[k][width]; `along` is the distance between lines and
// `deep` the distance between the elements of one, one of them being 1.
template <class Type>
void pack_panel(const typename Type::Stored* source, size_t along, size_t deep, size_t count, size_t depth, size_t width,
                float* out) {
  if (count < width) std::fill(out, out + depth * width, 0.0f);
  if (along == 1) {
    for (size_t k = 0; k < depth; ++k)
      for (size_t i = 0; i < count; ++i) out[k * width + i] = Type::widen(source[k * deep + i]);
    return;
  }
  // Sixteen elements of each line at a time: the lines of the panel stay in the level-1 cache.
  for (size_t first = 0; first < depth; first += 16) {
    const size_t last = std::min(depth, first + 16);
    for (size_t i = 0; i < count; ++i)
      for (size_t k = first; k < last; ++k) out[k * width + i] = Type::widen(source[i * along + k]);
  }
}

// Panel of lines [first_line, first_line + count) and elements [first_deep, first_deep + depth) of a factor.
void pack(const Factor& factor, bool lines_are_rows, size_t first_line, size_t first_deep, size_t count, size_t depth,
          size_t width, float* out) {
  const bool rows = lines_are_rows != factor.transposed;  // lines are rows of the stored matrix
  const size_t along = rows ? factor.stride : 1, deep = rows ? 1 : factor.stride;
  const size_t offset = first_line * along + first_deep * deep;
  if (factor.dtype == DType::f32)
    pack_panel<FromFloat>(static_cast<const float*>(factor.data) + offset, along, deep, count, depth, width, out);
  else if (factor.dtype == DType::f16)
    pack_panel<FromHalf>(static_cast<const uint16_t*>(factor.data) + offset, along, deep, count, depth, width, out);
  else
    pack_panel<FromBfloat16>(static_cast<const uint16_t*>(factor.data) + offset, along, deep, count, depth, width, out);
}

// As many accumulators as 32 registers (aarch64) or 16 hold.
#if defined(__aarch64__)
constexpr size_t kPortableVectors = 4;
#else
constexpr size_t kPortableVectors = 2;
#endif
void product_tile_portable(const float* a, const float* b, size_t depth, float* c, size_t c_stride) {
  product_tile<16, 6, kPortableVectors>(a, b, depth, c, c_stride);
}

constexpr ProductKernel kKernels[] = {{"portable", 6, 4 * kPortableVectors, product_tile_portable},
#if defined(SHIFTADD_PRODUCT_X86)
                                      {"avx2", 6, 16, product_tile_avx2},
                                      {"avx512", 12, 32, product_tile_avx512}
#endif
};

size_t usable_kernels() {
#if defined(SHIFTADD_PRODUCT_X86)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 1;
  return __builtin_cpu_supports("avx512f") ? 3 : 2;
#else
  return 1;
#endif
}

}  // namespace

std::span<const ProductKernel> product_kernels() {
  static const size_t usable = usable_kernels();
  return {kKernels, usable};
}

void DenseProduct::parallel(size_t count, FunctionRef<void(size_t)> work) {
  if (backend_ != nullptr) return backend_->parallel(count, work);
  for (size_t i = 0; i < count; ++i) work(i);
}

void DenseProduct::multiply(size_t rows, size_t columns, size_t depth, const Factor& a, const Factor& b, float* c,
                            size_t c_stride, bool accumulate) {
  const size_t height = kernel_.height, width = kernel_.width;
  const size_t slice_depth = std::min(depth, kSliceDepth);
  const size_t slice_columns = std::min(round_up(columns, width), kSliceFloats / std::max<size_t>(slice_depth, 1) / width * width);
  if (const size_t needed = round_up(rows, height) * slice_depth; a_panels_.size() < needed) a_panels_.resize(needed);
  if (const size_t needed = slice_columns * slice_depth; b_panels_.size() < needed) b_panels_.resize(needed);
  if (!accumulate && depth == 0)
    for (size_t i = 0; i < rows; ++i) std::fill(c + i * c_stride, c + i * c_stride + columns, 0.0f);

  for (size_t k = 0; k < depth; k += kSliceDepth) {
    const size_t deep = std::min(kSliceDepth, depth - k);
    parallel((rows + height - 1) / height, [&](size_t panel) {
      const size_t i = panel * height;
      pack(a, true, i, k, std::min(height, rows - i), deep, height, a_panels_.data() + i * deep);
    });
    for (size_t first = 0; first < columns; first += slice_columns) {
      const size_t wide = std::min(slice_columns, columns - first);
      parallel((wide + width - 1) / width, [&](size_t panel) {
        const size_t j = panel * width;
        pack(b, false, first + j, k, std::min(width, wide - j), deep, width, b_panels_.data() + j * deep);
      });
      const size_t down = (rows + kItemRows - 1) / kItemRows, across = (wide + kItemColumns - 1) / kItemColumns;
      parallel(down * across, [&](size_t item) {
        const size_t i0 = item / across * kItemRows, i1 = std::min(rows, i0 + kItemRows);
        const size_t j0 = item % across * kItemColumns, j1 = std::min(wide, j0 + kItemColumns);
        float* corner = c + first;
        if (k == 0 && !accumulate)
          for (size_t i = i0; i < i1; ++i) std::fill(corner + i * c_stride + j0, corner + i * c_stride + j1, 0.0f);
        for (size_t pass = 0; pass < deep; pass += kDepth) {
          const size_t part = std::min(kDepth, deep - pass);
          for (size_t j = j0; j < j1; j += width)
            for (size_t i = i0; i < i1; i += height) {
              const float* left = a_panels_.data() + i * deep + pass * height;
              const float* right = b_panels_.data() + j * deep + pass * width;
              float* target = corner + i * c_stride + j;
              if (i + height <= rows && j + width <= wide) {
                kernel_.tile(left, right, part, target, c_stride);
                continue;
              }
              float edge[kLargestTile] = {};
              kernel_.tile(left, right, part, edge, width);
              for (size_t r = 0; r < std::min(height, rows - i); ++r)
                for (size_t s = 0; s < std::min(width, wide - j); ++s) target[r * c_stride + s] += edge[r * width + s];
            }
        }
      });
    }
  }
}

}  // namespace shiftadd
