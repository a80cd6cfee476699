#include "core/tuner/dense_product.h"

#include <algorithm>
#include <bit>
#include <cstdint>
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
// Most depth of one pass over a tile: a panel of B (40 KiB at 32 columns, 20 KiB at 16) stays in the level-1 cache.
constexpr size_t kDepth = 320;
// Depth and number of floats of B that are packed at once (8 MiB).
constexpr size_t kSliceDepth = 1280;
constexpr size_t kSliceFloats = size_t{2} << 20;
// Tile of C of one item of parallel work; multiples of every kernel's height and width. The panels of A of one pass
// (120 KiB) stay in the level-2 cache.
constexpr size_t kItemRows = 96;
constexpr size_t kItemColumns = 256;

size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

// Sixteen-bit floats without branches, so that loops over them are vectorised; the same values as core/half.h gives.
struct FromHalf {
  static float widen(uint16_t half) {
    const uint32_t magnitude = (half & 0x7fffu) << 13, sign = (half & 0x8000u) << 16;
    const uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    return std::bit_cast<float>(sign | (magnitude < 0x0f800000 ? finite : magnitude | 0x7f800000));
  }
};
struct FromBfloat16 {
  static float widen(uint16_t value) { return bfloat16_to_float(value); }
};

constexpr size_t kMostLines = 32;   // the widest panel
constexpr size_t kLinePart = 64;    // elements of each line at a time: all lines of a panel stay in the level-1 cache

typedef float Four __attribute__((vector_size(16)));

// Four of the eight floats of x and y by their numbers.
template <int kFirst, int kSecond, int kThird, int kFourth>
Four pick(Four x, Four y) {
#if defined(__clang__)
  return __builtin_shufflevector(x, y, kFirst, kSecond, kThird, kFourth);
#else
  typedef int32_t Numbers __attribute__((vector_size(16)));
  return __builtin_shuffle(x, y, Numbers{kFirst, kSecond, kThird, kFourth});
#endif
}

// out[k * width + i] = lines[i * along + k], four by four.
void transpose(const float* lines, size_t along, size_t count, size_t depth, size_t width, float* out) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    size_t k = 0;
    for (; k + 4 <= depth; k += 4) {
      Four r0, r1, r2, r3;
      std::memcpy(&r0, lines + i * along + k, 16);
      std::memcpy(&r1, lines + (i + 1) * along + k, 16);
      std::memcpy(&r2, lines + (i + 2) * along + k, 16);
      std::memcpy(&r3, lines + (i + 3) * along + k, 16);
      const Four a = pick<0, 4, 1, 5>(r0, r1), b = pick<2, 6, 3, 7>(r0, r1);
      const Four c = pick<0, 4, 1, 5>(r2, r3), d = pick<2, 6, 3, 7>(r2, r3);
      r0 = pick<0, 1, 4, 5>(a, c);
      r1 = pick<2, 3, 6, 7>(a, c);
      r2 = pick<0, 1, 4, 5>(b, d);
      r3 = pick<2, 3, 6, 7>(b, d);
      std::memcpy(out + k * width + i, &r0, 16);
      std::memcpy(out + (k + 1) * width + i, &r1, 16);
      std::memcpy(out + (k + 2) * width + i, &r2, 16);
      std::memcpy(out + (k + 3) * width + i, &r3, 16);
    }
    for (; k < depth; ++k)
      for (size_t l = i; l < i + 4; ++l) out[k * width + l] = lines[l * along + k];
  }
  for (; i < count; ++i)
    for (size_t k = 0; k < depth; ++k) out[k * width + i] = lines[i * along + k];
}

// Copies `count` (at most `width`) lines of `depth` elements into out[k][width], the rest of it zeros; `along` is the
// distance between lines and `deep` the distance between the elements of one, one of them being 1.
void pack_floats(const float* source, size_t along, size_t deep, size_t count, size_t depth, size_t width, float* out) {
  if (along != 1) {
    for (size_t k = 0; k < depth; k += kLinePart)
      transpose(source + k, along, count, std::min(kLinePart, depth - k), width, out + k * width);
  } else {
    for (size_t k = 0; k < depth; ++k) std::memcpy(out + k * width, source + k * deep, count * sizeof(float));
  }
}

template <class Type>
void pack_halves(const uint16_t* source, size_t along, size_t deep, size_t count, size_t depth, size_t width, float* out) {
  if (along != 1) {
    float lines[kMostLines * kLinePart];
    for (size_t first = 0; first < depth; first += kLinePart) {
      const size_t part = std::min(kLinePart, depth - first);
      for (size_t i = 0; i < count; ++i)
        for (size_t k = 0; k < part; ++k) lines[i * kLinePart + k] = Type::widen(source[i * along + first + k]);
      transpose(lines, kLinePart, count, part, width, out + first * width);
    }
  } else {
    for (size_t k = 0; k < depth; ++k)
      for (size_t i = 0; i < count; ++i) out[k * width + i] = Type::widen(source[k * deep + i]);
  }
}

// Panel of lines [first_line, first_line + count) and elements [first_deep, first_deep + depth) of a factor.
void pack(const Factor& factor, bool lines_are_rows, size_t first_line, size_t first_deep, size_t count, size_t depth,
          size_t width, float* out) {
  const bool rows = lines_are_rows != factor.transposed;  // lines are rows of the stored matrix
  const size_t along = rows ? factor.stride : 1, deep = rows ? 1 : factor.stride;
  const size_t offset = first_line * along + first_deep * deep;
  if (count < width) std::fill(out, out + depth * width, 0.0f);
  if (factor.dtype == DType::f32)
    return pack_floats(static_cast<const float*>(factor.data) + offset, along, deep, count, depth, width, out);
  const auto* halves = static_cast<const uint16_t*>(factor.data) + offset;
  if (factor.dtype == DType::f16) return pack_halves<FromHalf>(halves, along, deep, count, depth, width, out);
  pack_halves<FromBfloat16>(halves, along, deep, count, depth, width, out);
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
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx512 ? 3 : 2;
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
  const size_t slice_columns =
      std::min(round_up(columns, width), kSliceFloats / std::max<size_t>(slice_depth, 1) / width * width);
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
        // Passes of equal depth: a short last one would spend its time on loading and storing C.
        const size_t passes = (deep + kDepth - 1) / kDepth, pass_depth = (deep + passes - 1) / passes;
        for (size_t pass = 0; pass < deep; pass += pass_depth) {
          const size_t part = std::min(pass_depth, deep - pass);
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
