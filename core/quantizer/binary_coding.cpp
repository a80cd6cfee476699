// Levels, assignment and the alternating fit; see binary_coding.h.
#include "core/quantizer/binary_coding.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shiftadd {
namespace {

// Where alternation starts, by number of planes: the scales that greedy residuals suggest, and uniform grids that span
// a share of the largest magnitude. Alternation only finds the optimum next to its start: up to four planes greedy
// scales and clipped grids win in turns; with more, greedy scales are too unequal, and the finer the grid the less
// clipping it wants. Measured on real weights; a further start gains less than 2 %.
struct Starts {
  bool greedy;
  float spans[3];  // 0: none
};
constexpr Starts kStarts[kMaxPlanes] = {{true, {}},
                                        {true, {0.85f}},
                                        {true, {0.85f, 0.6f}},
                                        {true, {0.85f, 0.6f}},
                                        {false, {0.8f, 0.6f, 0.4f}},
                                        {false, {1.0f, 0.9f, 0.8f}},
                                        {false, {1.0f}},
                                        {false, {1.0f}}};

// Index of the first element of sorted `values` that is not below `bound`.
size_t first_not_below(const float* values, size_t count, float bound) {
  const float* base = values;
  while (count > 1) {
    const size_t half = count / 2;
    base += base[half - 1] < bound ? half : 0;
    count -= half;
  }
  return static_cast<size_t>(base - values) + (count == 1 && *base < bound ? 1 : 0);
}

}  // namespace

void Levels::set(const ScaleSet& scales) {
  planes_ = scales.planes;
  count_ = 1;
  values_[0] = 0;
  codes_[0] = 0;
  float merged[kMaxLevels];
  uint8_t merged_codes[kMaxLevels];
  for (uint32_t plane = 0; plane < planes_; ++plane) {
    // Both halves, lowered and raised by the scale, are sorted already: merge them.
    const float scale = scales.values[plane];
    const uint8_t bit = static_cast<uint8_t>(1u << plane);
    uint32_t low = 0, high = 0;
    for (uint32_t i = 0; i < 2 * count_; ++i) {
      const bool take_low = low < count_ && (high == count_ || values_[low] - scale <= values_[high] + scale);
      merged[i] = take_low ? values_[low] - scale : values_[high] + scale;
      merged_codes[i] = take_low ? codes_[low] : static_cast<uint8_t>(codes_[high] | bit);
      low += take_low;
      high += !take_low;
    }
    count_ *= 2;
    std::copy(merged, merged + count_, values_);
    std::copy(merged_codes, merged_codes + count_, codes_);
  }
  for (uint32_t i = 0; i + 1 < count_; ++i) midpoints_[i] = 0.5f * (values_[i] + values_[i + 1]);
  for (uint32_t i = 0; i < count_; ++i) by_code_[codes_[i]] = values_[i];
}

void Levels::nearest(const float* values, size_t count, uint8_t* codes, float* quantized) const {
  constexpr size_t kBatch = 64;
  for (size_t start = 0; start < count; start += kBatch) {
    const size_t size = std::min(kBatch, count - start);
    float batch[kBatch] = {};
    int32_t ranks[kBatch] = {};
    std::copy(values + start, values + start + size, batch);
    // Counting the midpoints below a value beats a binary search even at 255 of them: it needs no gathers.
    for (uint32_t m = 0; m + 1 < count_; ++m) {
      const float midpoint = midpoints_[m];
      for (size_t i = 0; i < kBatch; ++i) ranks[i] += batch[i] >= midpoint ? 1 : 0;
    }
    for (size_t i = 0; i < size; ++i) {
      quantized[start + i] = values_[ranks[i]];
      codes[start + i] = codes_[ranks[i]];
    }
  }
}

ScaleSet GroupFit::greedy_start() {
  ScaleSet scales;
  scales.planes = planes_;
  residual_.resize(samples_.size());
  const double total = prefix_.back().weight;
  for (size_t i = 0; i < samples_.size(); ++i) residual_[i] = samples_[i].value;
  for (uint32_t plane = 0; plane < planes_; ++plane) {
    double sum = 0;
    for (size_t i = 0; i < samples_.size(); ++i) sum += double{samples_[i].weight} * std::fabs(residual_[i]);
    scales.set(plane, static_cast<float>(sum / total), grid_);
    const float scale = scales.values[plane];
    for (float& value : residual_) value -= value < 0 ? -scale : scale;
  }
  scales.sort();
  return scales;
}

ScaleSet GroupFit::uniform_start(float span) const {
  ScaleSet scales;
  scales.planes = planes_;
  const float largest = std::max(-sorted_.front(), sorted_.back());
  const float step = span * largest / static_cast<float>((1u << planes_) - 1);
  for (uint32_t plane = 0; plane < planes_; ++plane) {
    scales.set(plane, step * static_cast<float>(1u << (planes_ - 1 - plane)), grid_);
  }
  return scales;
}

void GroupFit::alternate(ScaleSet scales, ScaleSet* best, double* best_loss) {
  for (uint32_t round = 0;; ++round) {
    levels_.set(scales);
    ScaleSystem system;
    double loss = 0;  // up to the constant sum of squares
    size_t begin = 0;
    for (uint32_t rank = 0; rank < levels_.count(); ++rank) {
      const size_t rest = sorted_.size() - begin;
      const size_t end = rank + 1 == levels_.count()
                             ? sorted_.size()
                             : begin + first_not_below(sorted_.data() + begin, rest, levels_.midpoint(rank));
      if (end == begin) continue;
      const double weight = prefix_[end].weight - prefix_[begin].weight;
      const double sum = prefix_[end].sum - prefix_[begin].sum;
      begin = end;
      const double value = levels_.value(rank);
      loss += value * (value * weight - 2 * sum);
      const uint32_t code = levels_.code(rank);
      for (uint32_t i = 0; i < planes_; ++i) {
        system.target[i] += code >> i & 1 ? sum : -sum;
        for (uint32_t l = 0; l < i; ++l) system.matrix[i][l] += (code >> i ^ code >> l) & 1 ? -weight : weight;
      }
    }
    if (loss < *best_loss) {
      *best_loss = loss;
      *best = scales;
    }
    if (round >= rounds_) return;
    for (uint32_t i = 0; i < planes_; ++i) system.matrix[i][i] = prefix_.back().weight;
    uint32_t flipped = 0;  // signs are assigned anew, so a flip is free
    ScaleSet next = solve_scales(system, planes_, grid_, &flipped);
    next.sort();
    if (next.same_codes(scales)) return;
    scales = next;
  }
}

ScaleSet GroupFit::fit() {
  ScaleSet best;
  best.planes = planes_;
  if (samples_.empty()) return best;
  std::sort(samples_.begin(), samples_.end(), [](const Sample& a, const Sample& b) { return a.value < b.value; });
  sorted_.resize(samples_.size());
  prefix_.resize(samples_.size() + 1);
  prefix_[0] = {0, 0};
  for (size_t i = 0; i < samples_.size(); ++i) {
    const double weight = samples_[i].weight;
    sorted_[i] = samples_[i].value;
    prefix_[i + 1] = {prefix_[i].weight + weight, prefix_[i].sum + weight * samples_[i].value};
  }
  if (!(prefix_.back().weight > 0)) return best;
  double best_loss = std::numeric_limits<double>::infinity();
  const Starts& starts = kStarts[planes_ - 1];
  if (starts.greedy) alternate(greedy_start(), &best, &best_loss);
  for (float span : starts.spans) {
    if (span > 0) alternate(uniform_start(span), &best, &best_loss);
  }
  return best;
}

}  // namespace shiftadd
