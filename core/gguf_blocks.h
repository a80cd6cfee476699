// Decodes the quantized blocks of GGUF files. Format: the GGUF specification and the reference in the `gguf` Python package,
// with whose fp32 results these agree bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor.h"

namespace shiftadd {

// out: count * format_of(dtype).values numbers. Any bytes are valid; scales may decode to infinity or NaN.
void decode_blocks(DType dtype, const uint8_t* blocks, size_t count, float* out);

}  // namespace shiftadd
