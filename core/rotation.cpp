#include "core/rotation.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/backend.h"
#include "core/half.h"

namespace shiftadd {
namespace {

constexpr uint32_t kColumnsAtOnce = 16;  // of a matrix whose outputs are rotated: whole cache lines of it

// x = x Walsh, of a power of two of numbers; the matrix is symmetric.
void walsh(float* x, size_t count) {
  for (size_t half = 1; half < count; half *= 2)
    for (size_t first = 0; first < count; first += 2 * half)
      for (size_t i = first; i < first + half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
}

// out[j] = sum over i of x[i] * matrix[i][j], or matrix[j][i] when transposed, on vectors of `width` numbers.
void mix(const Rotation& rotation, const float* x, float* out, size_t width, bool transposed) {
  const size_t size = rotation.size;
  std::fill(out, out + size * width, 0.0f);
  for (size_t j = 0; j < size; ++j)
    for (size_t i = 0; i < size; ++i) {
      float* sum = out + j * width;
      const float* term = x + i * width;
      if (rotation.matrix[transposed ? j * size + i : i * size + j] > 0)
        for (size_t w = 0; w < width; ++w) sum[w] += term[w];
      else
        for (size_t w = 0; w < width; ++w) sum[w] -= term[w];
    }
}

}  // namespace

Status Rotation::check() const {
  const size_t hidden = signs.size(), width = size == 0 ? 0 : hidden / size;
  if (size == 0 || size > kMaxSize || hidden % size != 0 || (width & (width - 1)) != 0)
    return bad_format("the rotation's size is not the hidden size divided by a power of two, or above " +
                      std::to_string(kMaxSize));
  const auto is_sign = [](float value) { return value == 1 || value == -1; };
  if (matrix.size() != size_t{size} * size || !std::all_of(signs.begin(), signs.end(), is_sign) ||
      !std::all_of(matrix.begin(), matrix.end(), is_sign))
    return bad_format("the rotation has numbers that are not +1 or -1");
  for (size_t a = 0; a < size; ++a)
    for (size_t b = a; b < size; ++b) {
      float product = 0;  // exact: small integers
      for (size_t i = 0; i < size; ++i) product += matrix[a * size + i] * matrix[b * size + i];
      if (product != (a == b ? static_cast<float>(size) : 0)) return bad_format("the rotation is not orthogonal");
    }
  return ok_status();
}

void Rotation::apply(const float* x, float* out, float* scratch, bool inverse) const {
  const size_t hidden = signs.size(), width = hidden / size;
  const float scale = 1 / std::sqrt(static_cast<float>(hidden));
  if (inverse) {
    mix(*this, x, scratch, width, true);
    for (size_t i = 0; i < size; ++i) walsh(&scratch[i * width], width);
    for (size_t i = 0; i < hidden; ++i) out[i] = scratch[i] * (signs[i] * scale);
  } else {
    for (size_t i = 0; i < hidden; ++i) scratch[i] = x[i] * signs[i];
    for (size_t i = 0; i < size; ++i) walsh(&scratch[i * width], width);
    mix(*this, scratch, out, width, false);
    for (size_t i = 0; i < hidden; ++i) out[i] *= scale;
  }
}

Status rotate_matrix(const Rotation& rotation, const DenseMatrix& matrix, RotatedSide side, const float* gain,
                     Backend& backend, uint16_t* out) {
  const size_t rows = matrix.rows, columns = matrix.columns;
  std::atomic<bool> fits{true};
  const auto store = [&](float value, uint16_t* to) {
    *to = float_to_half(value);
    if (!(std::fabs(half_to_float(*to)) <= 65504.0f)) fits = false;
  };
  if (side == RotatedSide::inputs) {
    backend.parallel(rows, [&](size_t row) {
      std::vector<float> line(columns), scratch(columns);
      read_row(matrix, static_cast<uint32_t>(row), line.data());
      if (gain != nullptr)
        for (size_t c = 0; c < columns; ++c) line[c] *= gain[c];
      rotation.apply(line.data(), line.data(), scratch.data(), false);
      for (size_t c = 0; c < columns; ++c) store(line[c], &out[row * columns + c]);
    });
  } else {
    backend.parallel((columns + kColumnsAtOnce - 1) / kColumnsAtOnce, [&](size_t item) {
      const size_t first = item * kColumnsAtOnce, count = std::min<size_t>(kColumnsAtOnce, columns - first);
      std::vector<float> lines(count * rows), scratch(rows), part(count);
      for (size_t r = 0; r < rows; ++r) {
        read_part(matrix, static_cast<uint32_t>(r), static_cast<uint32_t>(first), static_cast<uint32_t>(count), part.data());
        for (size_t c = 0; c < count; ++c) lines[c * rows + r] = part[c];
      }
      for (size_t c = 0; c < count; ++c) rotation.apply(&lines[c * rows], &lines[c * rows], scratch.data(), false);
      for (size_t r = 0; r < rows; ++r)
        for (size_t c = 0; c < count; ++c) store(lines[c * rows + r], &out[r * columns + first + c]);
    });
  }
  return fits ? ok_status() : bad_format("a weight is not finite or too large for fp16 after the rotation");
}

}  // namespace shiftadd
