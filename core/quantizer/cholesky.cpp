// Blocked Cholesky factor and triangular inverse in double precision; see cholesky.h.
#include "core/quantizer/cholesky.h"

#include <algorithm>
#include <cmath>

#include "core/quantizer/panel_product.h"

namespace shiftadd {
namespace {

constexpr size_t kBlock = 64;
// Smallest pivot, in units of the mean diagonal of the matrix (the caller normalises it to 1).
constexpr double kSmallestPivot = 1e-9;

// Lower factor of the diagonal block at `start`, in place.
bool factor_block(double* a, size_t stride, size_t start) {
  for (size_t i = start; i < start + kBlock; ++i) {
    for (size_t j = start; j <= i; ++j) {
      double sum = a[i * stride + j];
      for (size_t k = start; k < j; ++k) sum -= a[i * stride + k] * a[j * stride + k];
      if (i != j) {
        a[i * stride + j] = sum / a[j * stride + j];
      } else if (sum > kSmallestPivot && std::isfinite(sum)) {
        a[i * stride + i] = std::sqrt(sum);
      } else {
        return false;
      }
    }
  }
  return true;
}

// A = L L' in place in the lower half; size is a multiple of kBlock.
bool lower_factor(double* a, size_t size, const ParallelFor& parallel) {
  std::vector<double> column(kBlock * size);  // the block column below the diagonal, transposed
  for (size_t start = 0; start < size; start += kBlock) {
    if (!factor_block(a, size, start)) return false;
    const size_t below = start + kBlock;
    if (below == size) break;
    parallel((size - below) / kBlock, [&](size_t block) {
      for (size_t i = below + block * kBlock; i < below + (block + 1) * kBlock; ++i) {
        double* row = a + i * size + start;
        for (size_t j = 0; j < kBlock; ++j) {
          const double* other = a + (start + j) * size + start;
          double sum = row[j];
          for (size_t k = 0; k < j; ++k) sum -= row[k] * other[k];
          row[j] = sum / other[j];
          column[j * size + i] = row[j];
        }
      }
    });
    parallel((size - below) / kBlock, [&](size_t block) {
      const size_t i = below + block * kBlock;
      add_product(column.data() + i, size, column.data() + below, size, kBlock, -1.0, a + i * size + below, size,
                  kBlock, i + kBlock - below);
    });
  }
  return true;
}

// L becomes its inverse, in place in the lower half.
void invert_lower(double* a, size_t size, const ParallelFor& parallel) {
  std::vector<double> rows(kBlock * size);  // the block row left of the diagonal, transposed
  std::vector<double> diagonal(kBlock * kBlock);
  for (size_t start = 0; start < size; start += kBlock) {
    for (size_t i = 0; i < kBlock; ++i) {
      double* row = a + (start + i) * size;
      for (size_t k = 0; k < start; ++k) rows[k * kBlock + i] = row[k];
      for (size_t k = 0; k < kBlock; ++k) diagonal[i * kBlock + k] = k <= i ? row[start + k] : 0;
      std::fill(row, row + start + kBlock, 0.0);
      row[start + i] = 1;
    }
    parallel(start / kBlock + 1, [&](size_t block) {
      const size_t j = block * kBlock;  // columns j .. j + kBlock of the block row
      if (j < start) {
        add_product(rows.data() + j * kBlock, kBlock, a + j * size + j, size, start - j, -1.0, a + start * size + j,
                    size, kBlock, kBlock);
      }
      for (size_t i = 0; i < kBlock; ++i) {
        double* row = a + (start + i) * size + j;
        for (size_t k = 0; k < i; ++k) {
          const double* solved = a + (start + k) * size + j;
          const double scale = diagonal[i * kBlock + k];
          for (size_t c = 0; c < kBlock; ++c) row[c] -= scale * solved[c];
        }
        const double inverse = 1 / diagonal[i * kBlock + i];
        for (size_t c = 0; c < kBlock; ++c) row[c] *= inverse;
      }
    });
  }
}

}  // namespace

bool inverse_factor(const float* matrix, size_t size, double damping, const ParallelFor& parallel,
                    std::vector<float>* factor) {
  // With rows and columns in reverse order, matrix = R R' with R upper triangular is an ordinary lower Cholesky factor;
  // then U = inverse(R). Padding to whole blocks is an identity at the end.
  const size_t padded = (size + kBlock - 1) / kBlock * kBlock;
  std::vector<double> work(padded * padded, 0.0);
  for (size_t i = 0; i < padded; ++i) {
    double* row = work.data() + i * padded;
    if (i >= size) {
      row[i] = 1;
      continue;
    }
    const float* source = matrix + (size - 1 - i) * size;
    for (size_t j = 0; j <= i; ++j) row[j] = source[size - 1 - j];
    row[i] += damping;
  }
  if (!lower_factor(work.data(), padded, parallel)) return false;
  invert_lower(work.data(), padded, parallel);
  factor->assign(size * size, 0.0f);
  for (size_t i = 0; i < size; ++i) {
    const double* row = work.data() + (size - 1 - i) * padded;
    float* target = factor->data() + i * size;
    for (size_t j = i; j < size; ++j) target[j] = static_cast<float>(row[size - 1 - j]);
  }
  return true;
}

}  // namespace shiftadd
