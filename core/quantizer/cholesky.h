// The triangular factor that error compensation runs on.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace shiftadd {

// Runs work(i) for i in [0, count), possibly on several threads; results must not depend on the number of threads.
using ParallelFor = std::function<void(size_t count, const std::function<void(size_t)>& work)>;

// Upper Cholesky factor U of the inverse of a symmetric matrix: U' U = inverse(matrix), row-major, zero below the
// diagonal. Returns false when the matrix is not positive definite to working precision.
bool inverse_factor(const float* matrix, size_t size, double damping, const ParallelFor& parallel,
                    std::vector<float>* factor);

}  // namespace shiftadd
