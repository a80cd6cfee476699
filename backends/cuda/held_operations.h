// Operations that the backend holds back until the next one shows whether one launch can do both: a norm or an activation with the
// rounding of a product's input, a product with the addition of its result, rotations with attention. Of one row, norms and products.
#pragma once

#include <optional>

#include "backends/cuda/parameters.h"
#include "core/backend.h"

namespace shiftadd {

struct HeldNorm {
  const float* x;
  uint32_t columns;
  shiftadd_cuda::InputNorm norm;
};
struct HeldActivation {
  float* gate;
  size_t count;
  shiftadd_cuda::InputActivation activation;
};
struct HeldProduct {
  LinearCall call;
  const float* x = nullptr;
  std::optional<HeldNorm> norm;
  std::optional<HeldActivation> activation;
};
struct HeldRotation {
  float* x;
  uint32_t rows, heads, head_size, size;
  const float* angles;
};

}  // namespace shiftadd
