// Reads the numbers of a model description (core/model_spec.h), tensor by tensor.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "core/model_spec.h"

namespace shiftadd {

// Integers out of an array of doubles; `ok` tells whether all were in range.
struct SpecReader {
  const double* numbers;
  bool ok = true;

  uint64_t integer(size_t index, double low, double high) {
    const double value = numbers[index];
    if (!(value >= low && value <= high && std::floor(value) == value)) {
      ok = false;
      return 0;
    }
    return static_cast<uint64_t>(value);
  }
  uint32_t integer32(size_t index, double low, double high) { return static_cast<uint32_t>(integer(index, low, high)); }
  bool flag(size_t index) { return integer(index, 0, 1) == 1; }
  FileRange range(size_t index, size_t files);
};

// One tensor, checked against the hyperparameters.
Status parse_tensor_spec(const double* numbers, size_t files, const ModelSpec& spec, TensorSpec* out);

}  // namespace shiftadd
