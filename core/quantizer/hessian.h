// The Hessian as the quantizer uses it: normalised, damped, its columns in the order in which they are quantized.
#pragma once

#include <cstdint>
#include <vector>

#include "core/quantizer/cholesky.h"

namespace shiftadd {

// Columns that share scales; `begin` counts in quantization order.
struct Bundle {
  uint32_t begin = 0;
  uint32_t width = 0;
  uint32_t column_group = 0;  // in the order of the matrix
};

struct Hessian {
  uint32_t columns = 0;
  std::vector<uint32_t> order;   // order[i]: the matrix column quantized as number i
  std::vector<Bundle> bundles;   // in quantization order
  std::vector<float> matrix;     // damped, mean diagonal about 1, quantization order; empty: the identity
  std::vector<float> factor;     // upper Cholesky factor of its inverse; empty: the identity
  double damping = 0;            // that is in `matrix`, on its diagonal
  uint32_t dead_columns = 0;
  bool failed = false;           // no damping tried made it positive definite

  bool identity() const { return matrix.empty(); }
};

// `hessian`: columns x columns or null. Bundles of group_columns neighbouring columns are ordered by their summed
// diagonal, largest first. When factorisation fails the damping is raised tenfold up to three times; after that the
// result is the identity.
Hessian prepare_hessian(const float* hessian, uint32_t columns, uint32_t group_columns, double damping, double identity,
                        const ParallelFor& parallel);

}  // namespace shiftadd
