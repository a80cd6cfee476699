// Scales of one group on the grid of sums of powers of two: solves the small least squares for all planes and rounds
// one scale after the other, each rounding error compensated by the scales not yet rounded.
#pragma once

#include <cstdint>

#include "core/packed_matrix.h"

namespace shiftadd {

// Which scales are representable; see encode_scale.
struct ScaleGrid {
  int32_t exponent = 0;
  uint32_t terms = kMaxScaleTerms;
};

// The scales of one group, always representable: values[i] == decode_scale(codes[i]).
struct ScaleSet {
  uint32_t planes = 0;
  uint16_t codes[kMaxPlanes] = {};
  float values[kMaxPlanes] = {};

  void set(uint32_t plane, float value, const ScaleGrid& grid);  // rounds; negative values become 0
  void sort();                                                   // largest first
  bool same_codes(const ScaleSet& other) const;
};

// Normal equations: the loss of scales x is x' matrix x - 2 target' x + constant. Only matrix[i][l], l <= i, is read.
struct ScaleSystem {
  double matrix[kMaxPlanes][kMaxPlanes] = {};
  double target[kMaxPlanes] = {};

  double loss(const float* values, uint32_t planes) const;
};

// Minimises the loss and rounds. A scale that comes out negative is returned as its magnitude and its bit set in
// `flipped`: the same matrix with that plane's signs inverted.
ScaleSet solve_scales(const ScaleSystem& system, uint32_t planes, const ScaleGrid& grid, uint32_t* flipped);

}  // namespace shiftadd
