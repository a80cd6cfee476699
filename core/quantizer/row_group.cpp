// Loading, expanding and measuring one row group; see row_group.h.
#include "core/quantizer/row_group.h"

#include <algorithm>
#include <cmath>

#include "core/quantizer/lanes.h"
#include "core/quantizer/panel_product.h"

namespace shiftadd {

float row_rms(const float* row, uint32_t columns) {
  double sum = 0;
  for (uint32_t c = 0; c < columns; ++c) sum += double{row[c]} * row[c];
  return static_cast<float>(std::sqrt(sum / columns));
}

float row_scale_unit(float largest) {
  if (!(largest > 0)) return 1;
  int exponent = 0;
  std::frexp(largest, &exponent);
  return std::ldexp(1.0f, 1 - exponent);
}

RowGroup load_row_group(const float* matrix, const Hessian& hessian, uint32_t first_row, uint32_t rows,
                        const float* row_scales) {
  RowGroup group;
  group.first_row = first_row;
  group.rows = rows;
  group.padded = padded_rows(rows);
  group.row_scales.assign(group.padded, 0.0f);
  std::copy(row_scales + first_row, row_scales + first_row + rows, group.row_scales.begin());
  group.importance.resize(group.padded);
  for (size_t r = 0; r < group.padded; ++r) group.importance[r] = group.row_scales[r] * group.row_scales[r];
  group.weights.assign(hessian.columns * group.padded, 0.0f);
  for (uint32_t r = 0; r < rows; ++r) {
    const float* row = matrix + size_t{first_row + r} * hessian.columns;
    for (size_t c = 0; c < hessian.columns; ++c) group.weights[c * group.padded + r] = row[hessian.order[c]];
  }
  group.codes.assign(hessian.columns * group.padded, 0);
  group.scales.resize(hessian.bundles.size());
  return group;
}

void expand_row_group(const RowGroup& group, const Hessian& hessian, std::vector<float>* panel) {
  panel->resize(group.codes.size());
  Levels levels;
  for (size_t b = 0; b < hessian.bundles.size(); ++b) {
    const Bundle& bundle = hessian.bundles[b];
    levels.set(group.scales[b]);
    for (size_t c = bundle.begin; c < bundle.begin + bundle.width; ++c) {
      const uint8_t* codes = group.codes.data() + c * group.padded;
      float* values = panel->data() + c * group.padded;
      for (size_t r = 0; r < group.padded; ++r) values[r] = group.row_scales[r] * levels.of_code(codes[r]);
    }
  }
}

void multiply_hessian(const std::vector<float>& panel, const Hessian& hessian, size_t padded,
                      std::vector<float>* panel_h) {
  if (hessian.identity()) {
    *panel_h = panel;
    return;
  }
  const size_t columns = hessian.columns;
  panel_h->assign(panel.size(), 0.0f);
  add_product(hessian.matrix.data(), columns, panel.data(), padded, columns, 1.0f, panel_h->data(), padded, columns,
              padded);
}

ScaleSystem bundle_system(const uint8_t* codes, size_t width, size_t padded, uint32_t planes, const float* importance,
                          const float* metric, const float* pull, std::vector<float>* scratch) {
  ScaleSystem system;
  const size_t slab = width * padded;
  scratch->resize((planes + 1) * slab);
  float* signs = scratch->data();                    // [plane][width][padded]
  float* weighted = scratch->data() + planes * slab;  // [width][padded]: importance * metric * s_i
  for (uint32_t i = 0; i < planes; ++i) {
    float* plane = signs + i * slab;
    for (size_t n = 0; n < slab; ++n) plane[n] = static_cast<float>(static_cast<int32_t>(codes[n] >> i & 1) * 2 - 1);
  }
  for (uint32_t i = 0; i < planes; ++i) {
    const float* plane = signs + i * slab;
    for (size_t j = 0; j < width; ++j) {
      float* sum = weighted + j * padded;
      std::fill(sum, sum + padded, 0.0f);
      for (size_t k = 0; k < width; ++k) {
        const float scale = metric[j * kMaxBundle + k];
        const float* column = plane + k * padded;
        for (size_t r = 0; r < padded; ++r) sum[r] += scale * column[r];
      }
      for (size_t r = 0; r < padded; ++r) sum[r] *= importance[r];
    }
    for (uint32_t l = 0; l <= i; ++l) {
      for (size_t j = 0; j < width; ++j) {
        system.matrix[i][l] += double{dot(weighted + j * padded, signs + l * slab + j * padded, padded)};
      }
    }
    for (size_t j = 0; j < width; ++j) {
      for (size_t r = 0; r < padded; ++r) weighted[j * padded + r] = importance[r] * plane[j * padded + r];
      system.target[i] += double{dot(weighted + j * padded, pull + j * padded, padded)};
    }
  }
  return system;
}

}  // namespace shiftadd
