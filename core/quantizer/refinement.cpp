// Block-coordinate descent over bundles; see refinement.h. The gradient E H is kept up to date for all columns, so that
// the change of the objective by any step inside a bundle is known exactly from the bundle alone.
#include "core/quantizer/refinement.h"

#include <algorithm>

#include "core/half.h"
#include "core/quantizer/lanes.h"
#include "core/quantizer/panel_product.h"

namespace shiftadd {
namespace {

// Columns whose changes are collected before they reach the rest of E H in one large product.
constexpr size_t kLazyColumns = 64;

class Descent {
 public:
  Descent(const Hessian& hessian, const QuantizeSettings& settings, const ScaleGrid& grid, RowGroup* group)
      : hessian_(hessian), settings_(settings), grid_(grid), group_(group), padded_(group->padded) {}

  void run() {
    multiply_hessian(group_->weights, hessian_, padded_, &weights_h_);
    expand_row_group(*group_, hessian_, &scratch_);
    for (size_t n = 0; n < scratch_.size(); ++n) scratch_[n] = group_->weights[n] - scratch_[n];
    multiply_hessian(scratch_, hessian_, padded_, &errors_h_);
    inverse_.resize(padded_);
    quantized_.resize(padded_);
    for (uint32_t sweep = 0; sweep < settings_.sweeps; ++sweep) {
      sweep_bundles();
      if (settings_.row_scales) refit_row_scales();
    }
  }

 private:
  float hessian_at(size_t row, size_t column) const {
    if (hessian_.identity()) return row == column ? 1.0f : 0.0f;
    return hessian_.matrix[row * hessian_.columns + column];
  }

  void sweep_bundles() {
    for (size_t r = 0; r < padded_; ++r) {
      inverse_[r] = group_->row_scales[r] > 0 ? 1 / group_->row_scales[r] : 0;
      group_->importance[r] = group_->row_scales[r] * group_->row_scales[r];
    }
    for (size_t first = 0; first < hessian_.bundles.size();) {
      const size_t begin = hessian_.bundles[first].begin;
      size_t last = first, end = begin;
      while (last < hessian_.bundles.size() && end + hessian_.bundles[last].width <= begin + kLazyColumns) {
        end += hessian_.bundles[last++].width;
      }
      change_.assign((end - begin) * padded_, 0.0f);
      for (; first < last; ++first) {
        const Bundle& bundle = hessian_.bundles[first];
        float* change = change_.data() + (bundle.begin - begin) * padded_;
        refit_scales(bundle, &group_->scales[first], change);
        descend_signs(bundle, group_->scales[first], change);
        spread(bundle.begin, bundle.width, change, begin, bundle.begin);
        spread(bundle.begin, bundle.width, change, bundle.begin + bundle.width, end);
      }
      spread(begin, end - begin, change_.data(), 0, begin);
      spread(begin, end - begin, change_.data(), end, hessian_.columns);
    }
  }

  // Adds (change of E in columns [begin, begin + width)) * H to columns [from, to) of E H.
  void spread(size_t begin, size_t width, const float* change, size_t from, size_t to) {
    if (hessian_.identity() || from >= to) return;
    const size_t columns = hessian_.columns;
    add_product(hessian_.matrix.data() + begin * columns + from, columns, change, padded_, width, 1.0f,
                errors_h_.data() + from * padded_, padded_, to - from, padded_);
  }

  // The same inside one bundle, for the change of one column.
  void spread_inside(const Bundle& bundle, size_t column, const float* change) {
    for (size_t k = 0; k < bundle.width; ++k) {
      const float weight = hessian_at(column, bundle.begin + k);
      float* target = errors_h_.data() + (bundle.begin + k) * padded_;
      for (size_t r = 0; r < padded_; ++r) target[r] += weight * change[r];
    }
  }

  // Least squares of the scales of one bundle, all else fixed; what rounding leaves is seen by the bundles after it.
  void refit_scales(const Bundle& bundle, ScaleSet* scales, float* change) {
    const size_t width = bundle.width;
    const uint32_t planes = settings_.planes;
    for (size_t j = 0; j < width; ++j) {
      for (size_t k = 0; k < width; ++k) metric_[j * kMaxBundle + k] = hessian_at(bundle.begin + j, bundle.begin + k);
    }
    pull_.resize(width * padded_);
    for (size_t j = 0; j < width; ++j) {
      const float* gradient = errors_h_.data() + (bundle.begin + j) * padded_;
      for (size_t r = 0; r < padded_; ++r) pull_[j * padded_ + r] = gradient[r] * inverse_[r];
    }
    uint8_t* codes = group_->code_column(bundle.begin);
    ScaleSystem system = bundle_system(codes, width, padded_, planes, group_->importance.data(), metric_, pull_.data(),
                                       &scratch_);
    // The system is that of a change of the scales; shift it to the scales themselves.
    for (uint32_t i = 0; i < planes; ++i) {
      for (uint32_t l = 0; l < planes; ++l) {
        system.target[i] += system.matrix[std::max(i, l)][std::min(i, l)] * scales->values[l];
      }
    }
    uint32_t flipped = 0;
    const ScaleSet candidate = solve_scales(system, planes, grid_, &flipped);
    float signed_values[kMaxPlanes];
    for (uint32_t i = 0; i < planes; ++i) {
      signed_values[i] = flipped >> i & 1 ? -candidate.values[i] : candidate.values[i];
    }
    if (!(system.loss(signed_values, planes) < system.loss(scales->values, planes))) return;
    levels_.set(*scales);
    new_levels_.set(candidate);
    for (size_t j = 0; j < width; ++j) {
      uint8_t* column = codes + j * padded_;
      float* delta = change + j * padded_;
      for (size_t r = 0; r < padded_; ++r) {
        const uint8_t code = static_cast<uint8_t>(column[r] ^ flipped);
        delta[r] = group_->row_scales[r] * (levels_.of_code(column[r]) - new_levels_.of_code(code));
        column[r] = code;
      }
      spread_inside(bundle, bundle.begin + j, delta);
    }
    *scales = candidate;
  }

  // One pass over the columns of a bundle: every weight takes the level that minimises the objective, all else fixed.
  void descend_signs(const Bundle& bundle, const ScaleSet& scales, float* change) {
    levels_.set(scales);
    for (size_t j = 0; j < bundle.width; ++j) {
      const size_t column = bundle.begin + j;
      const float step = 1 / hessian_at(column, column);
      const float* gradient = errors_h_.data() + column * padded_;
      uint8_t* codes = group_->code_column(column);
      pull_.resize(2 * padded_);
      float* target = pull_.data();
      float* delta = pull_.data() + padded_;
      for (size_t r = 0; r < padded_; ++r) {
        delta[r] = levels_.of_code(codes[r]);
        target[r] = delta[r] + gradient[r] * step * inverse_[r];
      }
      levels_.nearest(target, padded_, codes, quantized_.data());
      for (size_t r = 0; r < padded_; ++r) {
        delta[r] = group_->row_scales[r] * (delta[r] - quantized_[r]);
        change[j * padded_ + r] += delta[r];
      }
      spread_inside(bundle, column, delta);
    }
  }

  // Closed form per row: scale = (w H q) / (q H q), with q the row without its scale; rounded, kept when better.
  void refit_row_scales() {
    std::vector<double> cross(padded_, 0.0), square(padded_, 0.0);
    expand_row_group(*group_, hessian_, &scratch_);  // scale * q
    for (size_t c = 0; c < hessian_.columns; ++c) {
      const float* values = scratch_.data() + c * padded_;
      const float* weight_h = weights_h_.data() + c * padded_;
      const float* error_h = errors_h_.data() + c * padded_;
      for (size_t r = 0; r < padded_; ++r) {
        cross[r] += double{values[r]} * weight_h[r];
        square[r] += double{values[r]} * (double{weight_h[r]} - error_h[r]);
      }
    }
    std::vector<float> moved(padded_, 0.0f);  // new scale / old scale - 1
    for (size_t r = 0; r < padded_; ++r) {
      const float old = group_->row_scales[r];
      if (!(old > 0) || !(square[r] > 0) || !(cross[r] > 0)) continue;
      const float fresh = half_to_float(float_to_half(static_cast<float>(old * (cross[r] / square[r]))));
      if (!(fresh > 0) || !(fresh <= 65504.0f)) continue;
      const double ratio = double{fresh} / old;
      if (!(ratio * (ratio * square[r] - 2 * cross[r]) < square[r] - 2 * cross[r])) continue;
      group_->row_scales[r] = fresh;
      moved[r] = static_cast<float>(ratio - 1);
    }
    for (size_t c = 0; c < hessian_.columns; ++c) {
      const float* weight_h = weights_h_.data() + c * padded_;
      float* error_h = errors_h_.data() + c * padded_;
      for (size_t r = 0; r < padded_; ++r) error_h[r] -= moved[r] * (weight_h[r] - error_h[r]);
    }
  }

  const Hessian& hessian_;
  const QuantizeSettings& settings_;
  const ScaleGrid grid_;
  RowGroup* group_;
  const size_t padded_;
  Levels levels_, new_levels_;
  float metric_[kMaxBundle * kMaxBundle];
  std::vector<float> weights_h_, errors_h_;  // W H and E H: [column in quantization order][padded]
  std::vector<float> change_;                // of E, in the columns of the current lazy block
  std::vector<float> inverse_;               // 1 / row scale
  std::vector<float> pull_, quantized_, scratch_;
};

}  // namespace

void refine(const Hessian& hessian, const QuantizeSettings& settings, const ScaleGrid& grid, RowGroup* group) {
  if (settings.sweeps > 0) Descent(hessian, settings, grid, group).run();
}

}  // namespace shiftadd
