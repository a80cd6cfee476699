#include "core/divergence.h"

#include <algorithm>
#include <cmath>

#include "core/float_math.h"

namespace shiftadd {
namespace {

constexpr size_t kChunk = 256;  // floats summed in single precision before they join the double

// Sum of what `term(i)` gives for i < count: chunk by chunk into a buffer, so that both loops compile to vectors.
template <typename Term>
double sum_terms(size_t count, const Term& term) {
  float terms[kChunk];
  double sum = 0;
  for (size_t first = 0; first < count; first += kChunk) {
    const size_t part = std::min(kChunk, count - first);
    for (size_t i = 0; i < part; ++i) terms[i] = term(first + i);
    float lanes[8] = {};
    size_t i = 0;
    for (; i + 8 <= part; i += 8)
      for (size_t l = 0; l < 8; ++l) lanes[l] += terms[i + l];
    for (; i < part; ++i) lanes[0] += terms[i];
    for (float lane : lanes) sum += lane;
  }
  return sum;
}

// visit(i, ln p, ln q) gives a term of the divergence.
template <typename Visit>
double sum_divergence(const float* dense, const float* packed, size_t count, const Visit& visit) {
  const double dense_exact = log_sum(dense, count), packed_exact = log_sum(packed, count);
  if (!std::isfinite(dense_exact + packed_exact)) return NAN;
  const float dense_log = static_cast<float>(dense_exact), packed_log = static_cast<float>(packed_exact);
  // What rounding the two logarithms adds to every ln p - ln q.
  const double rounding = (dense_log - dense_exact) - (packed_log - packed_exact);
  return rounding + sum_terms(count, [&](size_t i) { return visit(i, dense[i] - dense_log, packed[i] - packed_log); });
}

}  // namespace

double log_sum(const float* logits, size_t count) {
  float largest = logits[0];
  for (size_t i = 0; i < count; ++i) largest = logits[i] > largest ? logits[i] : largest;
  return std::log(sum_terms(count, [&](size_t i) { return exp_float(logits[i] - largest); })) + largest;
}

double divergence(const float* dense, const float* packed, size_t count) {
  return sum_divergence(dense, packed, count, [](size_t, float ln_p, float ln_q) { return exp_float(ln_p) * (ln_p - ln_q); });
}

double divergence_gradient(const float* dense, float* packed, size_t count, float factor) {
  return sum_divergence(dense, packed, count, [&](size_t i, float ln_p, float ln_q) {
    const float p = exp_float(ln_p);
    packed[i] = (exp_float(ln_q) - p) * factor;
    return p * (ln_p - ln_q);
  });
}

}  // namespace shiftadd
