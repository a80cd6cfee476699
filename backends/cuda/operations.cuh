// The operations of core/backend.h besides packed products and attention. Sums over a row run in a fixed order: a thread adds
// every kThreads-th element, then halves are added.
#pragma once

#include "backends/cuda/float_math.cuh"
#include "backends/cuda/parameters.h"

namespace shiftadd_cuda {

// Combines one value per thread of the block; every thread gets the result: lanes of a warp in five exchanges, then the warps in
// ascending order. scratch: one float per warp.
template <class Combine>
DEVICE float reduce_block(float value, float* scratch, Combine combine) {
  for (uint32 mask = kWarp / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
  synchronize_block();  // the last result may still be read
  if (thread_index() % kWarp == 0) scratch[thread_index() / kWarp] = value;
  synchronize_block();
  float result = scratch[0];
#pragma unroll
  for (uint32 warp = 1; warp < kThreads / kWarp; ++warp) result = combine(result, scratch[warp]);
  return result;
}

struct Sum {
  DEVICE_MEMBER float operator()(float a, float b) const { return a + b; }
};
struct Largest {  // NaN where one is NaN
  DEVICE_MEMBER float operator()(float a, float b) const { return a > b || a != a ? a : b; }
};

constexpr uint32 kHeld = 16;  // numbers of a row that a thread loads before it uses the first: the loads of a loop would wait

struct NormParts {
  float mean, factor;
  DEVICE_MEMBER float operator()(float x, float gain, const float* bias, uint32 c) const {
    const float value = (x - mean) * factor * gain;
    return bias ? value + bias[c] : value;
  }
};

// Mean (0 unless centered) and 1 / sqrt(mean square + epsilon) of a row, by the whole block.
DEVICE NormParts measure_row(const float* line, uint32 columns, uint32 centered, float epsilon, float* scratch) {
  float held[kHeld], mean = 0, sum = 0, squares = 0;
#pragma unroll
  for (uint32 i = 0; i < kHeld; ++i) {
    const uint32 c = thread_index() + i * kThreads;
    held[i] = c < columns ? line[c] : 0.0f;
  }
  if (centered) {
#pragma unroll
    for (uint32 i = 0; i < kHeld; ++i) sum += held[i];
    for (uint32 c = thread_index() + kHeld * kThreads; c < columns; c += kThreads) sum += line[c];
    mean = divide(reduce_block(sum, scratch, Sum()), (float)columns);
  }
#pragma unroll
  for (uint32 i = 0; i < kHeld; ++i)
    if (thread_index() + i * kThreads < columns) squares += (held[i] - mean) * (held[i] - mean);
  for (uint32 c = thread_index() + kHeld * kThreads; c < columns; c += kThreads) squares += (line[c] - mean) * (line[c] - mean);
  const float mean_square = divide(reduce_block(squares, scratch, Sum()), (float)columns);
  return {mean, divide(1.0f, square_root(mean_square + epsilon))};
}

// (x - mean) / sqrt(mean square + epsilon) * gain + bias; a block takes a row.
KERNEL LAUNCH_BOUNDS(kThreads) normalize(const float* x, const float* gain, const float* bias, float* out, uint32 columns,
                                         uint32 centered, float epsilon) {
  begin_kernel();
  SHARED float scratch[kThreads / kWarp];
  const float* line = x + (uint64)block_x() * columns;
  float* target = out + (uint64)block_x() * columns;
  const NormParts norm = measure_row(line, columns, centered, epsilon, scratch);
  for (uint32 c = thread_index(); c < columns; c += kThreads) target[c] = norm(line[c], gain[c], bias, c);
}

// One thread turns one pair. angles: [rows][size / 2] pairs (cosine, sine).
KERNEL LAUNCH_BOUNDS(kThreads) rotate(float* x, const float* angles, uint32 heads, uint32 head_size, uint32 size, uint32 pairs) {
  begin_kernel();
  const uint32 index = block_x() * kThreads + thread_index(), half = size / 2;
  if (index >= pairs) return;
  const uint32 i = index % half, head = index / half, row = head / heads;
  float* values = x + (uint64)head * head_size;
  const float cosine = angles[(uint64)row * size + 2 * i], sine = angles[(uint64)row * size + 2 * i + 1];
  const float a = values[i], b = values[i + half];
  values[i] = a * cosine - b * sine;
  values[i + half] = b * cosine + a * sine;
}

KERNEL LAUNCH_BOUNDS(kThreads) activate(uint32 kind, float* gate, const float* up, uint64 count) {
  begin_kernel();
  const uint64 i = (uint64)block_x() * kThreads + thread_index();
  if (i < count) gate[i] = up ? activation(kind, gate[i]) * up[i] : activation(kind, gate[i]);
}

KERNEL LAUNCH_BOUNDS(kThreads) add_bias(float* x, const float* bias, uint32 columns, uint64 count) {
  begin_kernel();
  const uint64 i = (uint64)block_x() * kThreads + thread_index();
  if (i < count) x[i] += bias[i % columns];
}

KERNEL LAUNCH_BOUNDS(kThreads) scale(float* x, float factor, uint64 count) {
  begin_kernel();
  const uint64 i = (uint64)block_x() * kThreads + thread_index();
  if (i < count) x[i] *= factor;
}

KERNEL LAUNCH_BOUNDS(kThreads) soft_cap(float* x, float cap, uint64 count) {
  begin_kernel();
  const uint64 i = (uint64)block_x() * kThreads + thread_index();
  if (i < count) x[i] = cap * tanh_float(divide(x[i], cap));
}

KERNEL LAUNCH_BOUNDS(kThreads) add(float* x, const float* y, uint64 count) {
  begin_kernel();
  const uint64 i = (uint64)block_x() * kThreads + thread_index();
  if (i < count) x[i] += y[i];
}

// ---- change of basis: core/rotation.cpp, the same bits ----

constexpr uint32 kBasisRoom = 8192;  // numbers of a row that fit shared memory

// Every level of the Walsh-Hadamard transform of `width` numbers, over a whole row.
DEVICE void walsh(float* line, uint32 hidden, uint32 width) {
  for (uint32 half = 1; half < width; half *= 2) {
    synchronize_block();
    for (uint32 index = thread_index(); index < hidden / 2; index += block_threads()) {
      float* at = line + index / half * 2 * half + index % half;
      const float a = at[0], b = at[half];
      at[0] = a + b;
      at[half] = a - b;
    }
  }
  synchronize_block();
}

// Number `index` of out[j][w] = sum over i of +-x[i][w], i ascending.
DEVICE float mix(const Basis& basis, const float* line, uint32 index, bool transposed) {
  const uint32 j = index / basis.width, w = index % basis.width;
  float sum = 0;
  for (uint32 i = 0; i < basis.size; ++i) {
    const float term = line[i * basis.width + w];
    sum = basis.matrix[transposed ? j * basis.size + i : i * basis.size + j] > 0 ? sum + term : sum - term;
  }
  return sum;
}

// Signs, transform and mixing of a row, or the inverse, by one block.
KERNEL LAUNCH_BOUNDS(1024) change_basis(Basis basis, uint32 inverse, float factor) {
  begin_kernel();
  SHARED float shared[kBasisRoom];
  const uint32 hidden = basis.size * basis.width;
  const float* line = basis.x + (uint64)block_x() * hidden;
  float* work = hidden <= kBasisRoom ? shared : basis.room + (uint64)block_x() * hidden;
  float* out = basis.out + (uint64)block_x() * hidden;
  for (uint32 c = thread_index(); c < hidden; c += block_threads())
    work[c] = inverse ? mix(basis, line, c, true) : line[c] * basis.signs[c];
  walsh(work, hidden, basis.width);
  for (uint32 c = thread_index(); c < hidden; c += block_threads())
    out[c] = inverse ? work[c] * (basis.signs[c] * factor) : mix(basis, work, c, false) * factor;
}

// ---- dense matrices ----

DEVICE float dense_element(const Dense& matrix, uint64 index) {
  if (matrix.type == 0) return ((const float*)matrix.data)[index];
  const half_bits bits = ((const half_bits*)matrix.data)[index];
  return matrix.type == 1 ? widen(bits) : float_of((uint32)bits << 16);
}

KERNEL LAUNCH_BOUNDS(kThreads) embed_dense(Dense matrix, const int32* tokens, float* out) {
  begin_kernel();
  const uint32 c = block_x() * kThreads + thread_index();
  if (c < matrix.columns)
    out[(uint64)block_y() * matrix.columns + c] = dense_element(matrix, (uint64)(uint32)tokens[block_y()] * matrix.columns + c);
}

// One warp computes one output of kTokens tokens. The order of the sum is free (backends/cpu/kernels.h).
KERNEL LAUNCH_BOUNDS(kThreads) dense_product(Dense matrix, const float* x, uint32 tokens, float* out) {
  begin_kernel();
  const uint32 lane = thread_index() % kWarp, row = block_x() * (kThreads / kWarp) + thread_index() / kWarp;
  const uint32 first = block_y() * kTokens;
  if (row >= matrix.rows) return;
  float sums[kTokens] = {};
  for (uint32 c = lane; c < matrix.columns; c += kWarp) {
    const float weight = dense_element(matrix, (uint64)row * matrix.columns + c);
    for (uint32 m = 0; m < kTokens; ++m)
      if (first + m < tokens) sums[m] = fused_multiply_add(weight, x[(uint64)(first + m) * matrix.columns + c], sums[m]);
  }
  for (uint32 m = 0; m < kTokens; ++m) {
    for (uint32 mask = 16; mask > 0; mask /= 2) sums[m] += shuffle_xor(sums[m], mask);
    if (lane == 0 && first + m < tokens) out[(uint64)(first + m) * matrix.rows + row] = sums[m];
  }
}

// h[i][j] = sum over rows of x[m][i] * x[m][j] for the 16 x 16 tiles at or above the diagonal. 256 threads.
KERNEL LAUNCH_BOUNDS(kThreads) gram(const float* x, uint32 rows, uint32 columns, float* h) {
  begin_kernel();
  const uint32 i = block_y() * 16 + thread_index() / 16, j = block_x() * 16 + thread_index() % 16;
  if (block_y() > block_x() || i >= columns || j >= columns) return;
  float sum = 0;
  for (uint32 m = 0; m < rows; ++m) sum += x[(uint64)m * columns + i] * x[(uint64)m * columns + j];
  h[(uint64)i * columns + j] = sum;
}

KERNEL LAUNCH_BOUNDS(kThreads) store_words(SmallUpload upload) {
  begin_kernel();
  if (thread_index() < upload.count) upload.to[thread_index()] = upload.words[thread_index()];
}

// ---- results ----

// out[m] = ln softmax(logits[m])[targets[m]]; NaN where a logit is not finite.
KERNEL LAUNCH_BOUNDS(kThreads) log_probabilities(const float* logits, const int32* targets, uint32 vocabulary, float* out) {
  begin_kernel();
  SHARED float scratch[kThreads / kWarp];
  const float* line = logits + (uint64)block_x() * vocabulary;
  float largest = line[0], sum = 0, outside = 0;
  for (uint32 i = thread_index(); i < vocabulary; i += kThreads) {
    largest = line[i] > largest ? line[i] : largest;
    if ((bits_of(line[i]) & 0x7f800000u) == 0x7f800000u) outside = 1;
  }
  largest = reduce_block(largest, scratch, Largest());
  outside = reduce_block(outside, scratch, Sum());
  for (uint32 i = thread_index(); i < vocabulary; i += kThreads) sum += exp_float(line[i] - largest);
  sum = reduce_block(sum, scratch, Sum());
  if (thread_index() == 0)
    out[block_x()] = outside > 0 ? float_of(0x7fc00000u) : (line[targets[block_x()]] - largest) - natural_logarithm(sum);
}

// A number and where it stands; of equal ones the first is the larger.
struct Candidate {
  float value;
  uint32 index;
  DEVICE_MEMBER void take(float other, uint32 from) {
    if (other > value || (other == value && from < index)) {
      value = other;
      index = from;
    }
  }
};

// The index of the largest number, the first of equal ones; all bits set where one is not finite, which counts as larger than all.
// Every block leaves its own in `parts`, the last one to end joins them.
KERNEL LAUNCH_BOUNDS(1024) find_largest(FindLargest a) {
  begin_kernel();
  SHARED float values[32];
  SHARED uint32 places[32];
  constexpr uint32 kAtOnce = 8;  // loads before the first is used
  const uint32 thread = thread_index(), warps = block_threads() / kWarp, stride = grid_x() * block_threads();
  Candidate best{float_of(0xff800000u), ~0u};
  for (uint32 first = block_x() * block_threads() + thread; first < a.count; first += kAtOnce * stride) {
    float held[kAtOnce];
#pragma unroll
    for (uint32 i = 0; i < kAtOnce; ++i) held[i] = a.values[first + i * stride < a.count ? first + i * stride : first];
#pragma unroll
    for (uint32 i = 0; i < kAtOnce; ++i)
      if (first + i * stride < a.count) {
        if ((bits_of(held[i]) & 0x7f800000u) == 0x7f800000u) best = {float_of(0x7f800000u), ~0u};
        else if (held[i] > best.value) best = {held[i], first + i * stride};
      }
  }
  const auto join_warp = [&] {
    for (uint32 mask = kWarp / 2; mask > 0; mask /= 2) {
      const float value = shuffle_xor(best.value, mask);
      best.take(value, shuffle_xor(best.index, mask));
    }
  };
  join_warp();
  if (thread % kWarp == 0) {
    values[thread / kWarp] = best.value;
    places[thread / kWarp] = best.index;
  }
  synchronize_block();
  if (thread >= kWarp) return;  // the first warp goes on
  best = thread < warps ? Candidate{values[thread], places[thread]} : Candidate{float_of(0xff800000u), ~0u};
  join_warp();
  uint32 last = 0;
  if (thread == 0) {
    a.parts[2 * block_x()] = best.value;
    a.parts[2 * block_x() + 1] = float_of(best.index);
    publish_results();
    last = add_one(a.ended) == grid_x() - 1;
  }
  if (warp_max(last) == 0) return;
  publish_results();
  best = {float_of(0xff800000u), ~0u};
  for (uint32 block = thread; block < grid_x(); block += kWarp)
    best.take(load_shared_result(a.parts + 2 * block), bits_of(load_shared_result(a.parts + 2 * block + 1)));
  join_warp();
  if (thread > 0) return;
  *a.out = best.index;
  *a.ended = 0;  // for the next launch
}

// Reads memory as fast as it delivers: the roofline of a decode step. A word is written only if the sum is one that it never
// is, so that the loads stay and nothing else is stored.
KERNEL LAUNCH_BOUNDS(1024) read_memory(const uint4* data, uint64 count, uint32* out) {
  begin_kernel();
  const uint64 stride = (uint64)grid_x() * block_threads();
  uint32 sum = 0;
  uint64 i = (uint64)block_x() * block_threads() + thread_index();
  for (; i + 3 * stride < count; i += 4 * stride) {
    const uint4 a = stream_load(data + i), b = stream_load(data + i + stride);
    const uint4 c = stream_load(data + i + 2 * stride), d = stream_load(data + i + 3 * stride);
    sum += (a.x ^ a.y ^ a.z ^ a.w) + (b.x ^ b.y ^ b.z ^ b.w) + (c.x ^ c.y ^ c.z ^ c.w) + (d.x ^ d.y ^ d.z ^ d.w);
  }
  for (; i < count; i += stride) {
    const uint4 a = stream_load(data + i);
    sum += a.x ^ a.y ^ a.z ^ a.w;
  }
  if (sum == 0x9e3779b9u) *out = sum;
}

}  // namespace shiftadd_cuda
