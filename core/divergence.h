// The Kullback-Leibler divergence of one next-token distribution from another, in nats: what tuning lowers and what the
// choice of widths weighs. Logits in; logits that are not finite give a result that is not finite. Same bits everywhere.
#pragma once

#include <cstddef>

namespace shiftadd {

// ln of the sum of e^logit.
double log_sum(const float* logits, size_t count);

// Sum of p (ln p - ln q), p of the dense model, q of the packed one.
double divergence(const float* dense, const float* packed, size_t count);

// The same, and `packed` becomes factor * its gradient by the packed logits, q - p.
double divergence_gradient(const float* dense, float* packed, size_t count, float factor);

}  // namespace shiftadd
