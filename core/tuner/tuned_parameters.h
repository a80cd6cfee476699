// What the tuner changes. Every parameter is multiplicative, p = p0 (1 + delta); ParameterSet holds the deltas of all of
// them with their gradients and Adam moments, TunedMatrix turns those of one packed matrix into weights and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/backend.h"
#include "core/packed_matrix.h"

namespace shiftadd {

enum class ParameterFamily : uint32_t { scale = 0, row_scale = 1, gain = 2 };
constexpr size_t kParameterFamilies = 3;

// Learning rates of one step, by family.
struct TuneRates {
  float rates[kParameterFamilies] = {};
};

struct ParameterRange {
  size_t first = 0, count = 0;
};

class ParameterSet {
 public:
  ParameterRange add(ParameterFamily family, size_t count);
  size_t size() const { return deltas_.size(); }
  const float* deltas(ParameterRange range) const { return deltas_.data() + range.first; }
  float* deltas(ParameterRange range) { return deltas_.data() + range.first; }
  float* gradients(ParameterRange range) { return gradients_.data() + range.first; }
  // One Adam step of the parameters in `ranges`. Source: arXiv 1412.6980, with betas 0.9, 0.95 and epsilon 1e-8.
  void update(Backend& backend, const TuneRates& rates, uint32_t step, std::span<const ParameterRange> ranges);

  // deltas, first and second moments.
  size_t state_size() const { return 3 * size(); }
  void save(float* out) const;
  void load(const float* in);

 private:
  std::vector<float> deltas_, gradients_, first_, second_;
  struct Family {
    ParameterRange range;
    ParameterFamily family;
  };
  std::vector<Family> families_;
};

class TunedMatrix {
 public:
  explicit TunedMatrix(PackedWeights weights);
  // Registers its scales and row scales; a matrix without parameters is frozen.
  void attach(ParameterSet* parameters);

  const PackedWeights& weights() const { return weights_; }
  ParameterRange scales() const { return scales_; }
  ParameterRange row_scales() const { return row_scales_; }

  // Scales as the file stores them, or (rounded false) as the deltas say; then decode uses them.
  void refresh(Backend& backend, const ParameterSet& parameters, bool rounded);
  // out: rows x columns.
  void decode(Backend& backend, float* out) const;
  // Projects the gradient of the decoded matrix onto the parameters, straight through the rounding.
  void project(Backend& backend, const float* d_weights, ParameterSet* parameters) const;
  // The weights with the tuned scales.
  PackedWeights tuned(const ParameterSet& parameters) const;

 private:
  void row_codes(uint32_t row, uint8_t* codes) const;
  float tuned_scale(const ParameterSet& parameters, size_t index, uint16_t* code) const;
  float tuned_row_scale(const ParameterSet& parameters, size_t row, uint16_t* half) const;
  // One value per column and plane of a row group: [plane][column].
  void expand_scales(uint32_t row_group, float* out) const;

  PackedWeights weights_;
  ParameterRange scales_, row_scales_;
  uint32_t terms_ = 1;              // powers of two per scale
  std::vector<float> base_scales_;  // before tuning, [row group][column group][plane]
  std::vector<float> scale_values_, row_scale_values_;  // of the last refresh
};

}  // namespace shiftadd
