// Compensated column loop over one row group; see compensation.h.
#include "core/quantizer/compensation.h"

#include <algorithm>

#include "core/quantizer/lanes.h"
#include "core/quantizer/panel_product.h"

namespace shiftadd {
namespace {

// Columns whose errors are collected before they reach the rest of the panel in one large product.
constexpr size_t kLazyColumns = 128;

// One assignment of signs to a bundle under given scales, errors running on inside the bundle.
struct SignPass {
  std::vector<uint8_t> codes;  // [width][padded]
  std::vector<float> errors;   // [width][padded]: (x - q) / U[c][c]
  double loss = 0;             // what optimal compensation by all later columns leaves
};

class ColumnLoop {
 public:
  ColumnLoop(const Hessian& hessian, const QuantizeSettings& settings, const ScaleGrid& grid, RowGroup* group)
      : hessian_(hessian), settings_(settings), grid_(grid), group_(group), padded_(group->padded),
        fit_(settings.planes, settings.fit_rounds, grid) {}

  void run() {
    normalise();
    const size_t columns = hessian_.columns;
    std::vector<float> errors(kLazyColumns * padded_);
    for (size_t first = 0; first < hessian_.bundles.size();) {
      const size_t begin = hessian_.bundles[first].begin;
      size_t last = first, end = begin;
      while (last < hessian_.bundles.size() && end + hessian_.bundles[last].width <= begin + kLazyColumns) {
        end += hessian_.bundles[last++].width;
      }
      for (; first < last; ++first) {
        const Bundle& bundle = hessian_.bundles[first];
        quantize_bundle(bundle, &group_->scales[first]);
        const size_t next = bundle.begin + bundle.width;
        std::copy(best_.errors.begin(), best_.errors.end(), errors.begin() + (bundle.begin - begin) * padded_);
        spread(bundle.begin, next, best_.errors.data(), next, end);
      }
      spread(begin, end, errors.data(), end, columns);
    }
  }

 private:
  float factor(size_t row, size_t column) const { return hessian_.factor[row * hessian_.columns + column]; }

  void normalise() {
    panel_ = group_->weights;
    std::vector<float> inverse(padded_);
    present_.resize(padded_);
    for (size_t r = 0; r < padded_; ++r) {
      const float scale = group_->row_scales[r];
      inverse[r] = scale > 0 ? 1 / scale : 0;
      present_[r] = scale > 0 ? 1.0f : 0.0f;
    }
    for (size_t c = 0; c < hessian_.columns; ++c) {
      float* values = panel_.data() + c * padded_;
      for (size_t r = 0; r < padded_; ++r) values[r] *= inverse[r];
    }
  }

  // Subtracts the errors of columns [begin, end) from columns [from, to).
  void spread(size_t begin, size_t end, const float* errors, size_t from, size_t to) {
    if (hessian_.factor.empty() || from >= to) return;
    const size_t columns = hessian_.columns;
    add_product(hessian_.factor.data() + begin * columns + from, columns, errors, padded_, end - begin, -1.0f,
                panel_.data() + from * padded_, padded_, to - from, padded_);
  }

  void quantize_bundle(const Bundle& bundle, ScaleSet* scales) {
    const float* slab = panel_.data() + bundle.begin * padded_;
    fit_.clear();
    for (size_t c = 0; c < bundle.width; ++c) {
      for (uint32_t r = 0; r < group_->rows; ++r) {
        if (group_->importance[r] > 0) fit_.add(slab[c * padded_ + r], group_->importance[r]);
      }
    }
    *scales = fit_.fit();
    assign_signs(bundle, *scales, &best_);
    if (settings_.refits > 0 && !hessian_.factor.empty()) {
      prepare_refit(bundle);
      for (uint32_t refit = 0; refit < settings_.refits; ++refit) {
        const ScaleSystem system = bundle_system(best_.codes.data(), bundle.width, padded_, settings_.planes,
                                                 group_->importance.data(), metric_, pull_.data(), &scratch_);
        uint32_t flipped = 0;  // signs are assigned anew, so a flip is free
        ScaleSet candidate = solve_scales(system, settings_.planes, grid_, &flipped);
        candidate.sort();
        if (candidate.same_codes(*scales)) break;
        assign_signs(bundle, candidate, &trial_);
        if (!(trial_.loss < best_.loss)) break;
        std::swap(best_, trial_);
        *scales = candidate;
      }
    }
    std::copy(best_.codes.begin(), best_.codes.end(), group_->code_column(bundle.begin));
  }

  void assign_signs(const Bundle& bundle, const ScaleSet& scales, SignPass* pass) {
    levels_.set(scales);
    slab_.assign(panel_.data() + bundle.begin * padded_, panel_.data() + (bundle.begin + bundle.width) * padded_);
    quantized_.resize(padded_);
    pass->codes.resize(slab_.size());
    pass->errors.resize(slab_.size());
    pass->loss = 0;
    for (size_t j = 0; j < bundle.width; ++j) {
      const float* values = slab_.data() + j * padded_;
      float* errors = pass->errors.data() + j * padded_;
      levels_.nearest(values, padded_, pass->codes.data() + j * padded_, quantized_.data());
      const size_t column = bundle.begin + j;
      const float inverse = hessian_.factor.empty() ? 1.0f : 1 / factor(column, column);
      for (size_t r = 0; r < padded_; ++r) errors[r] = (values[r] - quantized_[r]) * inverse * present_[r];
      for (size_t r = 0; r < padded_; ++r) quantized_[r] = errors[r] * group_->importance[r];
      pass->loss += double{dot(errors, quantized_.data(), padded_)};
      for (size_t k = j + 1; k < bundle.width && !hessian_.factor.empty(); ++k) {
        const float share = factor(column, bundle.begin + k);
        float* later = slab_.data() + k * padded_;
        for (size_t r = 0; r < padded_; ++r) later[r] -= share * errors[r];
      }
    }
  }

  // The loss of a bundle is |(S - Q) inverse(U_b)|^2 with U_b its diagonal block of U: metric = inverse(U_b' U_b).
  void prepare_refit(const Bundle& bundle) {
    const size_t width = bundle.width;
    double inverse[kMaxBundle][kMaxBundle] = {};
    for (size_t c = 0; c < width; ++c) {
      for (size_t i = c + 1; i-- > 0;) {
        double sum = i == c ? 1 : 0;
        for (size_t k = i + 1; k <= c; ++k) sum -= factor(bundle.begin + i, bundle.begin + k) * inverse[k][c];
        inverse[i][c] = sum / factor(bundle.begin + i, bundle.begin + i);
      }
    }
    const float* slab = panel_.data() + bundle.begin * padded_;
    pull_.assign(width * padded_, 0.0f);
    for (size_t j = 0; j < width; ++j) {
      for (size_t k = 0; k < width; ++k) {
        double sum = 0;
        for (size_t c = std::max(j, k); c < width; ++c) sum += inverse[j][c] * inverse[k][c];
        metric_[j * kMaxBundle + k] = static_cast<float>(sum);
        for (size_t r = 0; r < padded_; ++r) {
          pull_[j * padded_ + r] += metric_[j * kMaxBundle + k] * slab[k * padded_ + r];
        }
      }
    }
  }

  const Hessian& hessian_;
  const QuantizeSettings& settings_;
  const ScaleGrid grid_;
  RowGroup* group_;
  const size_t padded_;
  GroupFit fit_;
  Levels levels_;
  SignPass best_, trial_;
  float metric_[kMaxBundle * kMaxBundle];
  std::vector<float> panel_;    // normalised weights, compensated so far
  std::vector<float> present_;  // 1 where a row has weights to code
  std::vector<float> slab_, quantized_, pull_, scratch_;
};

}  // namespace

void compensate(const Hessian& hessian, const QuantizeSettings& settings, const ScaleGrid& grid, RowGroup* group) {
  ColumnLoop(hessian, settings, grid, group).run();
}

}  // namespace shiftadd
