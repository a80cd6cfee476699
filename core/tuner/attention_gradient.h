// Causal grouped-query attention of whole windows, and its gradient. Each (window, head) is one item of parallel work.
#pragma once

#include <cstdint>

#include "core/backend.h"

namespace shiftadd {

struct AttentionBatch {
  AttentionShape shape;
  uint32_t windows = 0, window = 0;  // rows are [window index][position]
};

// q, out: rows x (heads * head_size); k, v: rows x (kv_heads * head_size). Queries and keys are rotated already.
void attend_windows(Backend& backend, const AttentionBatch& batch, const float* q, const float* k, const float* v,
                    float* out);

// Gradients of q, k and v from d_out; `out` is what attend_windows computed. d_key_heads and d_value_heads are scratch of
// the shape of q: the gradients of k and v before the heads that share them are added.
void attend_windows_gradient(Backend& backend, const AttentionBatch& batch, const float* q, const float* k, const float* v,
                             const float* out, const float* d_out, float* dq, float* dk, float* dv, float* d_key_heads,
                             float* d_value_heads);

}  // namespace shiftadd
