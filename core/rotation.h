// An orthogonal change of basis of the residual stream, folded into the weights before they are packed: it spreads the few
// large entries of rows over all columns, so that a group of weights with common scales has members of similar size. A root
// mean square norm does not see it. Sources: computational invariance, arXiv 2401.15024; Hadamard rotations, arXiv
// 2404.00456.
//
//   Q = diag(signs) (matrix (x) Walsh) / sqrt(hidden size)
//
// with a Hadamard matrix of `size` rows and a Walsh-Hadamard matrix of hidden size / size (a power of two) in natural order:
// additions, and one product per number.
#pragma once

#include <cstdint>
#include <vector>

#include "core/status.h"
#include "core/tensor.h"

namespace shiftadd {

class Backend;

struct Rotation {
  static constexpr uint32_t kMaxSize = 256;

  uint32_t size = 0;          // 0: none
  std::vector<float> signs;   // hidden size, +1 or -1
  std::vector<float> matrix;  // size x size, +1 or -1

  bool none() const { return size == 0; }
  // Whether Q is orthogonal.
  Status check() const;
  // out = x Q, or x Q^T when inverse; each of hidden size, scratch too; out may be x. Same bits everywhere.
  void apply(const float* x, float* out, float* scratch, bool inverse) const;
};

// Folds the rotation into a dense matrix of `rows` x `columns`; out: the same shape in fp16.
// Of inputs: W diag(gain) Q, where `gain` is that of the norm in front, or null. Of outputs: Q^T W.
// bad_format when a value does not fit fp16.
enum class RotatedSide : uint32_t { inputs, outputs };
Status rotate_matrix(const Rotation& rotation, const DenseMatrix& matrix, RotatedSide side, const float* gain, Backend& backend,
                     uint16_t* out);

}  // namespace shiftadd
