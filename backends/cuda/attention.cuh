// Causal attention over cached keys and values. A block takes one token, one query head and one slice of 128 positions;
// slices start at multiples of 128, so that a token's result does not depend on the tokens that are read with it.
#pragma once

#include "backends/cuda/operations.cuh"

namespace shiftadd_cuda {

constexpr uint32 kKeysAtOnce = 4;  // of a warp: so many loads are on their way at a time, four times over

DEVICE float cached(const half_bits* cache, uint32 index) { return widen(cache[index]); }
DEVICE float cached(const float* cache, uint32 index) { return cache[index]; }

// Writes keys and values of new positions into the cache, one thread per number.
KERNEL LAUNCH_BOUNDS(kThreads) append_kv(Attention a) {
  begin_kernel();
  const uint32 index = block_x() * kThreads + thread_index(), size = a.head_size;
  if (index >= a.rows * a.kv_heads * size) return;
  const uint32 d = index % size, head = index / size % a.kv_heads, row = index / size / a.kv_heads;
  const uint64 to = ((uint64)head * a.capacity + a.position + row) * size + d;
  if (a.half_cache) {
    ((half_bits*)a.keys)[to] = narrow(a.k[index]);
    ((half_bits*)a.values)[to] = narrow(a.v[index]);
  } else {
    ((float*)a.keys)[to] = a.k[index];
    ((float*)a.values)[to] = a.v[index];
  }
}

// Shared memory of a block.
struct AttentionRoom {
  float *query, *scores, *scratch;
};

template <class Element>
DEVICE void attend(const Attention& a, const AttentionRoom& room) {
  float *query = room.query, *scores = room.scores, *scratch = room.scratch;
  const uint32 slice = block_x(), head = block_y(), row = block_z(), size = a.head_size, thread = thread_index();
  const uint32 visible = a.position + row + 1, seen = a.window > 0 && visible > a.window ? visible - a.window : 0;
  const uint32 start = (a.first_slice + slice) * kSlice;
  const uint32 first = start > seen ? start : seen, last = start + kSlice < visible ? start + kSlice : visible;
  const uint32 count = last > first ? last - first : 0;
  const uint64 line = ((uint64)row * a.heads + head) * size;
  const uint64 base = ((uint64)(head / (a.heads / a.kv_heads)) * a.capacity + first) * size;
  // Of this slice, whose numbers 32 bits count.
  const Element *keys = (const Element*)a.keys + base, *values = (const Element*)a.values + base;
  float* part = a.partial + (((uint64)row * a.heads + head) * a.slices + slice) * (2 + size);
  if (count == 0) {
    if (a.slices > 1 && thread == 0) part[1] = 0;
    return;
  }
  for (uint32 d = thread; d < size && d < kMaxHead; d += kThreads) query[d] = a.q[line + d];
  synchronize_block();
  // A warp takes some positions at a time: its lanes read one key side by side, and all loads start before the first sum.
  const uint32 lane = thread % kWarp;
  for (uint32 p = thread / kWarp * kKeysAtOnce; p < count; p += kThreads / kWarp * kKeysAtOnce) {
    float sums[kKeysAtOnce] = {};
#pragma unroll 4
    for (uint32 d = lane; d < size; d += kWarp) {
      const float q = d < kMaxHead ? query[d] : a.q[line + d];
#pragma unroll
      for (uint32 i = 0; i < kKeysAtOnce; ++i) {
        const uint32 position = p + i < count ? p + i : count - 1;
        sums[i] = fused_multiply_add(q, cached(keys, position * size + d), sums[i]);
      }
    }
#pragma unroll
    for (uint32 i = 0; i < kKeysAtOnce; ++i) {
      float sum = sums[i];
      for (uint32 mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
      sum *= a.scale;
      if (a.cap > 0) sum = a.cap * tanh_float(divide(sum, a.cap));
      if (a.slopes) sum -= a.slopes[head] * (float)(visible - 1 - (first + p + i));
      if (lane == 0 && p + i < count) scores[p + i] = sum;
    }
  }
  synchronize_block();
  const float mine = thread < count ? scores[thread] : scores[0];
  const float largest = reduce_block(mine, scratch, Largest());
  const float weight = thread < count ? exp_float(mine - largest) : 0.0f;
  const float sum = reduce_block(weight, scratch, Sum());
  if (thread < kSlice) scores[thread] = weight;
  synchronize_block();
  // Small heads leave threads over: they take every groups-th position, and their sums are added in this order.
  const uint32 groups = size < kThreads ? kThreads / size : 1;
  for (uint32 first_d = 0; first_d < size; first_d += kThreads) {
    const uint32 d = first_d + (groups > 1 ? thread % size : thread), group = groups > 1 ? thread / size : 0;
    float value = 0;
    if (d < size && group < groups)
#pragma unroll 16
      for (uint32 p = group; p < count; p += groups)
        value = fused_multiply_add(scores[p], cached(values, p * size + d), value);
    if (groups > 1) {
      synchronize_block();
      scratch[thread] = value;
      synchronize_block();
      for (uint32 g = 1; g < groups && thread < size; ++g) value += scratch[g * size + thread];
    }
    if (d >= size || group > 0) continue;
    if (a.slices == 1) a.out[line + d] = divide(value, sum);
    else part[2 + d] = value;
  }
  if (a.slices > 1 && thread == 0) {
    part[0] = largest;
    part[1] = sum;
  }
}

// Grid: slices x heads x rows. A single slice is the whole result; more leave parts for join_slices.
KERNEL LAUNCH_BOUNDS(kThreads) attend_slice(Attention a) {
  begin_kernel();
  SHARED float query[kMaxHead];
  SHARED float scores[kSlice];
  SHARED float scratch[kThreads];
  const AttentionRoom room{query, scores, scratch};
  if (a.half_cache) attend<half_bits>(a, room);
  else attend<float>(a, room);
}

// Grid: heads x rows. Slices are joined in ascending order; empty ones are left out.
KERNEL LAUNCH_BOUNDS(kThreads) join_slices(Attention a) {
  begin_kernel();
  const uint32 head = block_x(), row = block_y(), size = a.head_size, stride = 2 + size;
  const float* parts = a.partial + ((uint64)row * a.heads + head) * a.slices * stride;
  float largest = 0, sum = 0;
  uint32 any = 0;
  for (uint32 s = 0; s < a.slices; ++s) {
    const float* part = parts + (uint64)s * stride;
    if (part[1] == 0) continue;
    largest = any ? Largest()(largest, part[0]) : part[0];
    any = 1;
  }
  for (uint32 s = 0; s < a.slices; ++s) {
    const float* part = parts + (uint64)s * stride;
    if (part[1] != 0) sum += part[1] * exp_float(part[0] - largest);
  }
  for (uint32 d = thread_index(); d < size; d += kThreads) {
    float value = 0;
    for (uint32 s = 0; s < a.slices; ++s) {
      const float* part = parts + (uint64)s * stride;
      if (part[1] != 0) value += part[2 + d] * exp_float(part[0] - largest);
    }
    a.out[((uint64)row * a.heads + head) * size + d] = divide(value, sum);
  }
}

}  // namespace shiftadd_cuda
