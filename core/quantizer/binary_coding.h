// Binary coding of one group of weights: the 2^planes levels that a set of scales can express, nearest-level
// assignment, and the alternating fit that finds the scales.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/quantizer/power_of_two.h"

namespace shiftadd {

constexpr size_t kMaxLevels = size_t{1} << kMaxPlanes;

// All sums of +-scales. Bit i of a code is 1 where plane i has the sign +1.
class Levels {
 public:
  void set(const ScaleSet& scales);

  uint32_t count() const { return count_; }
  float value(uint32_t rank) const { return values_[rank]; }      // ascending
  uint8_t code(uint32_t rank) const { return codes_[rank]; }
  float midpoint(uint32_t rank) const { return midpoints_[rank]; }  // between rank and rank + 1
  float of_code(uint8_t code) const { return by_code_[code]; }

  // Nearest level of each value; a tie goes up.
  void nearest(const float* values, size_t count, uint8_t* codes, float* quantized) const;

 private:
  uint32_t planes_ = 0;
  uint32_t count_ = 0;
  float values_[kMaxLevels];
  float midpoints_[kMaxLevels];
  float by_code_[kMaxLevels];
  uint8_t codes_[kMaxLevels];
};

// Fits scales to groups, one after the other; holds the scratch memory of a fit.
class GroupFit {
 public:
  GroupFit(uint32_t planes, uint32_t rounds, const ScaleGrid& grid) : planes_(planes), rounds_(rounds), grid_(grid) {}

  void clear() { samples_.clear(); }
  void add(float value, float weight) { samples_.push_back({value, weight}); }
  // Alternates between nearest levels and least squares, rounded in every round, from a greedy start and from uniform
  // grids; returns the best scales seen, measured with nearest-level signs.
  ScaleSet fit();

 private:
  struct Sample {
    float value, weight;
  };
  struct Prefix {
    double weight, sum;  // of all samples before this one, sorted by value
  };

  ScaleSet greedy_start();
  ScaleSet uniform_start(float span) const;
  void alternate(ScaleSet scales, ScaleSet* best, double* best_loss);

  uint32_t planes_;
  uint32_t rounds_;
  ScaleGrid grid_;
  std::vector<Sample> samples_;
  std::vector<Prefix> prefix_;
  std::vector<float> sorted_;
  std::vector<float> residual_;
  Levels levels_;
};

}  // namespace shiftadd
