#include "core/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace shiftadd {
namespace {

constexpr float kGreedyTemperature = 1e-6f;
constexpr float kNegligible = 30.0f;  // e^-30 of the most likely token: such candidates are dropped before sorting

bool in_range(const Sampling& sampling) {
  return sampling.temperature >= 0 && sampling.top_p >= 0 && sampling.top_p <= 1 && sampling.min_p >= 0 && sampling.min_p <= 1 &&
         sampling.repetition_penalty > 0 && std::isfinite(sampling.temperature) && std::isfinite(sampling.repetition_penalty);
}

}  // namespace

// xoshiro256**, seeded by splitmix64 (Blackman and Vigna, public domain algorithms).
void Sampler::seed(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    word = z ^ (z >> 31);
  }
}

double Sampler::next_uniform() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9, t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return static_cast<double>(result >> 11) * 0x1p-53;
}

bool Sampler::is_greedy(const Sampling& sampling) { return sampling.temperature < kGreedyTemperature || sampling.top_k == 1; }

bool Sampler::takes_largest(const Sampling& sampling) {
  return in_range(sampling) && sampling.repetition_penalty == 1 && is_greedy(sampling);
}

Status Sampler::sample(std::span<const float> logits, std::span<const int32_t> recent, const Sampling& sampling,
                       std::span<const uint32_t> allowed, int32_t* token) {
  if (!in_range(sampling)) return invalid_argument("a sampling option is out of range");
  if (!allowed.empty() && allowed.size() != (logits.size() + 31) / 32) return invalid_argument("the mask of tokens has the wrong size");
  if (takes_largest(sampling) && allowed.empty()) {
    *token = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    return ok_status();
  }
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) candidates_[i] = {logits[i], static_cast<int32_t>(i)};
  if (sampling.repetition_penalty != 1) {
    const size_t window = std::min<size_t>(recent.size(), sampling.repetition_window);
    for (int32_t id : recent.last(window)) {
      const float logit = logits[static_cast<size_t>(id)];  // from the original: a token counts once
      candidates_[static_cast<size_t>(id)].logit =
          logit > 0 ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    }
  }
  if (!allowed.empty()) {
    std::erase_if(candidates_, [&](const Candidate& candidate) { return (allowed[static_cast<size_t>(candidate.token) >> 5] >> (candidate.token & 31) & 1) == 0; });
    if (candidates_.empty()) return invalid_argument("no token is allowed");
  }
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  };
  const Candidate best = *std::min_element(candidates_.begin(), candidates_.end(), likelier);
  if (is_greedy(sampling)) {
    *token = best.token;
    return ok_status();
  }
  // min-p compares probabilities after the temperature; kNegligible bounds the work of the sort.
  const float span = sampling.min_p > 0 ? std::min(kNegligible, -std::log(sampling.min_p)) : kNegligible;
  const float threshold = best.logit - span * sampling.temperature;
  std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.logit < threshold; });
  std::sort(candidates_.begin(), candidates_.end(), likelier);
  if (sampling.top_k > 0 && candidates_.size() > sampling.top_k) candidates_.resize(sampling.top_k);

  weights_.reserve(logits.size());  // once: no step after the first allocates
  weights_.resize(candidates_.size());
  double total = 0;
  for (size_t i = 0; i < candidates_.size(); ++i)
    total += weights_[i] = std::exp(static_cast<double>(candidates_[i].logit - best.logit) / sampling.temperature);
  double kept = 0;
  size_t count = 0;
  while (count < weights_.size() && (count == 0 || kept < sampling.top_p * total)) kept += weights_[count++];
  double target = next_uniform() * kept;
  size_t chosen = 0;
  while (chosen + 1 < count && target >= weights_[chosen]) target -= weights_[chosen++];
  *token = candidates_[chosen].token;
  return ok_status();
}

}  // namespace shiftadd
