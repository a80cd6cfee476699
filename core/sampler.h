// Picks the next token from logits: greedy, or random with temperature, top-k, top-p, min-p and repetition penalty.
// The random stream is our own, so that a seed gives the same tokens on every platform.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"

namespace shiftadd {

struct Sampling {
  float temperature = 0;         // 0 (or below 1e-6): the most likely token, whatever the rest says
  uint32_t top_k = 0;            // keep the k most likely; 0: off
  float top_p = 1;               // keep the fewest tokens whose probabilities reach p, at least one; 1: off
  float min_p = 0;               // keep tokens with at least this share of the most likely one's probability; 0: off
  float repetition_penalty = 1;  // divides positive and multiplies negative logits of recent tokens; arXiv 1909.05858
  uint32_t repetition_window = 64;
};

class Sampler {
 public:
  explicit Sampler(uint64_t seed = 0) { this->seed(seed); }
  void seed(uint64_t seed);
  // `logits` are finite; `recent` are the tokens so far, the latest last. `allowed` has one bit per token, at least one of
  // them 1; empty: all are.
  Status sample(std::span<const float> logits, std::span<const int32_t> recent, const Sampling& sampling,
                std::span<const uint32_t> allowed, int32_t* token);
  // Takes the most likely token, without a random number.
  static bool is_greedy(const Sampling& sampling);
  // The same, and nothing but the logits decides; options in range.
  static bool takes_largest(const Sampling& sampling);

 private:
  double next_uniform();  // [0, 1)

  uint64_t state_[4];
  struct Candidate {
    float logit;
    int32_t token;
  };
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
};

}  // namespace shiftadd
