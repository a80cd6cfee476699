// Attention of many tokens at once: a block takes one slice of positions and kAttentionRows (token, query head) pairs that share a
// key/value head, so that keys and values are read and widened once for them. Every number is computed as attend in
// attention.cuh computes it: the same bits. Without windows only: there, slices of two tokens begin at different positions.
#pragma once

#include "backends/cuda/attention.cuh"

namespace shiftadd_cuda {

// Sums over the warp of 32 values of every lane, the same additions as exchanging each with lanes 16, 8, 4, 2 and 1 away; lane i
// gets that of value i. Each exchange halves the values that a lane goes on with.
DEVICE float sum_values(float (&values)[32], uint32 lane) {
#pragma unroll
  for (uint32 step = 0; step < 5; ++step) {
    const uint32 mask = 16 >> step;
    const bool upper = lane & mask;
#pragma unroll
    for (uint32 i = 0; i < 16; ++i) {
      if (i >= mask) continue;
      const float low = values[i], high = values[i + mask];
      values[i] = (upper ? high : low) + shuffle_xor(upper ? low : high, mask);
    }
  }
  return values[0];
}

// Combines values as reduce_block does those of 128 threads: halves of the block, then halves of a warp.
template <class Combine>
DEVICE float reduce_parts(const float (&parts)[4], Combine combine) {
  float value = combine(combine(parts[0], parts[2]), combine(parts[1], parts[3]));
  for (uint32 mask = 16; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
  return value;
}

// Shared memory of a block. Of every pair: its place among (token, query head), how many positions of the slice it sees.
struct RowsRoom {
  float (*query)[kMaxRowsHead];
  float4 (*scores)[kAttentionRows / 4];  // [position]
  float (*scratch)[kThreads];
  float *largest, *sums;
  uint32 *places, *counts;
};

template <class Element>
DEVICE void attend_many(const Attention& a, const RowsRoom& room) {
  constexpr uint32 kRows = kAttentionRows;
  const uint32 slice = block_x(), kv_head = block_y(), size = a.head_size, thread = thread_index(), lane = thread % kWarp;
  const uint32 heads = a.heads / a.kv_heads, first_pair = block_z() * kRows, pairs = a.rows * heads;
  const uint32 used = pairs - first_pair < kRows ? pairs - first_pair : kRows, start = (a.first_slice + slice) * kSlice;
  if (thread < kRows) {
    const uint32 pair = first_pair + (thread < used ? thread : used - 1);  // those beyond are the last once more, and not stored
    const uint32 row = pair / heads, visible = a.position + row + 1, last = start + kSlice < visible ? start + kSlice : visible;
    room.places[thread] = row * a.heads + kv_head * heads + pair % heads;
    room.counts[thread] = last > start ? last - start : 0;
  }
  synchronize_block();
  const auto part_of = [&](uint32 r) { return a.partial + ((uint64)room.places[r] * a.slices + slice) * (2 + size); };
  const uint32 least = room.counts[0], most = room.counts[kRows - 1];  // pairs ascend with their tokens
  if (most == 0) {
    if (a.slices > 1 && thread < used) part_of(thread)[1] = 0;
    return;
  }
  const uint64 base = ((uint64)kv_head * a.capacity + start) * size;
  const Element *keys = (const Element*)a.keys + base, *values = (const Element*)a.values + base;
#pragma unroll
  for (uint32 r = 0; r < kRows; ++r)
    if (thread < size) room.query[r][thread] = a.q[(uint64)room.places[r] * size + thread];
  synchronize_block();
  for (uint32 p = thread / kWarp * kKeysAtOnce; p < most; p += kThreads / kWarp * kKeysAtOnce) {
    float sums[kRows * kKeysAtOnce] = {};
#pragma unroll 4
    for (uint32 d = lane; d < size; d += kWarp) {
      float key[kKeysAtOnce];
#pragma unroll
      for (uint32 i = 0; i < kKeysAtOnce; ++i) key[i] = cached(keys, (p + i < most ? p + i : most - 1) * size + d);
#pragma unroll
      for (uint32 r = 0; r < kRows; ++r) {
        const float q = room.query[r][d];
#pragma unroll
        for (uint32 i = 0; i < kKeysAtOnce; ++i)
          sums[r * kKeysAtOnce + i] = fused_multiply_add(q, key[i], sums[r * kKeysAtOnce + i]);
      }
    }
    float sum = sum_values(sums, lane) * a.scale;
    const uint32 r = lane / kKeysAtOnce, position = p + lane % kKeysAtOnce;
    if (a.cap > 0) sum = a.cap * tanh_float(divide(sum, a.cap));
    if (a.slopes) {
      const uint32 row = room.places[r] / a.heads, head = room.places[r] % a.heads;
      sum -= a.slopes[head] * (float)(a.position + row - (start + position));
    }
    if (position < room.counts[r]) ((float*)room.scores[position])[r] = sum;
  }
  synchronize_block();
  // A warp takes a pair.
  {
    const uint32 r = thread / kWarp, count = room.counts[r];
    constexpr uint32 kParts = kSlice / kWarp;
    float mine[kParts], largest[kParts], sum[kParts];
#pragma unroll
    for (uint32 w = 0; w < kParts; ++w) {
      const uint32 p = w * kWarp + lane;
      mine[w] = largest[w] = count == 0 ? 0.0f : ((const float*)room.scores[p < count ? p : 0])[r];
    }
    const float top = reduce_parts(largest, Largest());
#pragma unroll
    for (uint32 w = 0; w < kParts; ++w) {
      const uint32 p = w * kWarp + lane;
      sum[w] = p < count ? exp_float(mine[w] - top) : 0.0f;
      ((float*)room.scores[p])[r] = sum[w];
    }
    const float total = reduce_parts(sum, Sum());
    if (lane == 0) {
      room.largest[r] = top;
      room.sums[r] = total;
    }
  }
  synchronize_block();
  const uint32 groups = size < kThreads ? kThreads / size : 1, d = thread % size, group = thread / size;
  float sums[kRows] = {};
  if (group < groups) {
    // What all see, then what some see: adding a product with a weight of zero would not keep every bit.
    uint32 p = group;
#pragma unroll 8
    for (; p < least; p += groups) {
      const float value = cached(values, p * size + d);
#pragma unroll
      for (uint32 r = 0; r < kRows; r += 4) {
        const float4 weight = room.scores[p][r / 4];
        sums[r] = fused_multiply_add(weight.x, value, sums[r]);
        sums[r + 1] = fused_multiply_add(weight.y, value, sums[r + 1]);
        sums[r + 2] = fused_multiply_add(weight.z, value, sums[r + 2]);
        sums[r + 3] = fused_multiply_add(weight.w, value, sums[r + 3]);
      }
    }
#pragma unroll 1
    for (; p < most; p += groups) {
      const float value = cached(values, p * size + d);
#pragma unroll
      for (uint32 r = 0; r < kRows; ++r)
        if (p < room.counts[r]) sums[r] = fused_multiply_add(((const float*)room.scores[p])[r], value, sums[r]);
    }
  }
  if (groups > 1) {
#pragma unroll
    for (uint32 r = 0; r < kRows; ++r) room.scratch[r][thread] = sums[r];
    synchronize_block();
  }
  if (group > 0) return;
#pragma unroll
  for (uint32 r = 0; r < kRows; ++r) {
    if (r >= used) continue;
#pragma unroll 1
    for (uint32 g = 1; g < groups; ++g) sums[r] += room.scratch[r][g * size + d];
    if (a.slices == 1) {
      a.out[(uint64)room.places[r] * size + d] = divide(sums[r], room.sums[r]);
      continue;
    }
    const bool empty = room.counts[r] == 0;
    float* part = part_of(r);
    if (!empty) part[2 + d] = sums[r];
    if (d != 0) continue;
    part[0] = room.largest[r];
    part[1] = empty ? 0.0f : room.sums[r];
  }
}

// Grid: slices x key/value heads x groups of kAttentionRows pairs. Heads of at most kMaxRowsHead numbers, no window.
KERNEL LAUNCH_BOUNDS(kThreads) attend_rows(Attention a) {
  begin_kernel();
  SHARED float query[kAttentionRows][kMaxRowsHead];
  SHARED float4 scores[kSlice][kAttentionRows / 4];
  SHARED float scratch[kAttentionRows][kThreads];
  SHARED float largest[kAttentionRows], sums[kAttentionRows];
  SHARED uint32 places[kAttentionRows], counts[kAttentionRows];
  const RowsRoom room{query, scores, scratch, largest, sums, places, counts};
  if (a.half_cache) attend_many<half_bits>(a, room);
  else attend_many<float>(a, room);
}

}  // namespace shiftadd_cuda
