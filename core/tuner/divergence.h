// The loss of the tuner at one position: the Kullback-Leibler divergence of the packed model's next-token distribution from
// the dense model's, in nats.
#pragma once

#include <cstddef>

namespace shiftadd {

// Overwrites both: `dense` is scratch afterwards, `packed` becomes factor * the gradient of the divergence.
double divergence_gradient(float* dense, float* packed, size_t vocabulary, float factor);

}  // namespace shiftadd
