#include "core/tuner/divergence.h"

#include <algorithm>
#include <cmath>

#include "backends/cpu/float_math.h"

namespace shiftadd {
namespace {

constexpr size_t kChunk = 256;  // floats summed in single precision before they join the double

// ln sum of e^logits. Non-finite logits give a non-finite result.
double log_sum(const float* logits, size_t count, float* scratch) {
  float largest = logits[0];
  for (size_t i = 0; i < count; ++i) largest = logits[i] > largest ? logits[i] : largest;
  double sum = 0;
  for (size_t first = 0; first < count; first += kChunk) {
    const size_t part = std::min(kChunk, count - first);
    for (size_t i = 0; i < part; ++i) scratch[i] = exp_float(logits[first + i] - largest);
    float lanes[8] = {};
    size_t i = 0;
    for (; i + 8 <= part; i += 8)
      for (size_t l = 0; l < 8; ++l) lanes[l] += scratch[i + l];
    for (; i < part; ++i) lanes[0] += scratch[i];
    for (float lane : lanes) sum += lane;
  }
  return std::log(sum) + largest;
}

}  // namespace

// KL = sum p (ln p - ln q); its gradient by the logits of q is q - p.
double divergence_gradient(float* dense, float* packed, size_t vocabulary, float factor) {
  float scratch[kChunk];
  const double dense_exact = log_sum(dense, vocabulary, scratch), packed_exact = log_sum(packed, vocabulary, scratch);
  const float dense_log = static_cast<float>(dense_exact), packed_log = static_cast<float>(packed_exact);
  // What rounding the two logarithms adds to every ln p - ln q.
  double sum = (dense_log - dense_exact) - (packed_log - packed_exact);
  for (size_t first = 0; first < vocabulary; first += kChunk) {
    const size_t part = std::min(kChunk, vocabulary - first);
    float* t = dense + first;
    float* s = packed + first;
    for (size_t i = 0; i < part; ++i) {
      const float ln_p = t[i] - dense_log, ln_q = s[i] - packed_log;
      const float p = exp_float(ln_p);
      scratch[i] = p * (ln_p - ln_q);
      s[i] = (exp_float(ln_q) - p) * factor;
    }
    float lanes[8] = {};
    size_t i = 0;
    for (; i + 8 <= part; i += 8)
      for (size_t l = 0; l < 8; ++l) lanes[l] += scratch[i + l];
    for (; i < part; ++i) lanes[0] += scratch[i];
    for (float lane : lanes) sum += lane;
  }
  return std::isfinite(dense_exact + packed_exact) ? sum : NAN;
}

}  // namespace shiftadd
