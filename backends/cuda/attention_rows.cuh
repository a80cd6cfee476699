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

struct RowsRoom {
  float (*query)[kMaxRowsHead];
  float (*scores)[kAttentionRows];
  float (*scratch)[kThreads];
  float *largest, *sums;
};

template <class Element>
DEVICE void attend_many(const Attention& a, const RowsRoom& room) {
  constexpr uint32 kRows = kAttentionRows;
  const uint32 slice = block_x(), kv_head = block_y(), size = a.head_size, thread = thread_index(), lane = thread % kWarp;
  const uint32 heads = a.heads / a.kv_heads, first_pair = block_z() * kRows, pairs = a.rows * heads;
  const uint32 start = (a.first_slice + slice) * kSlice;
  const auto row_of = [&](uint32 pair) { return pair / heads; };
  const auto head_of = [&](uint32 pair) { return kv_head * heads + pair % heads; };
  // Positions of the slice that a pair sees; pairs beyond the last are the last once more, and not stored.
  const auto clamp = [&](uint32 r) { return first_pair + r < pairs ? first_pair + r : pairs - 1; };
  const auto count_of = [&](uint32 pair) {
    const uint32 visible = a.position + row_of(pair) + 1, last = start + kSlice < visible ? start + kSlice : visible;
    return last > start ? last - start : 0;
  };
  const auto line_of = [&](uint32 pair) { return ((uint64)row_of(pair) * a.heads + head_of(pair)) * size; };
  const auto part_of = [&](uint32 pair) {
    return a.partial + (((uint64)row_of(pair) * a.heads + head_of(pair)) * a.slices + slice) * (2 + size);
  };
  const uint32 least = count_of(clamp(0)), most = count_of(clamp(kRows - 1));  // pairs ascend with their tokens
  if (most == 0) {
    if (a.slices > 1 && thread < kRows && first_pair + thread < pairs) part_of(first_pair + thread)[1] = 0;
    return;
  }
  const uint64 base = ((uint64)kv_head * a.capacity + start) * size;
  const Element *keys = (const Element*)a.keys + base, *values = (const Element*)a.values + base;
#pragma unroll
  for (uint32 r = 0; r < kRows; ++r)
    for (uint32 d = thread; d < size; d += kThreads) room.query[r][d] = a.q[line_of(clamp(r)) + d];
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
    const uint32 r = lane / kKeysAtOnce, position = p + lane % kKeysAtOnce, pair = clamp(r);
    if (a.cap > 0) sum = a.cap * tanh_float(divide(sum, a.cap));
    if (a.slopes) sum -= a.slopes[head_of(pair)] * (float)(a.position + row_of(pair) - (start + position));
    if (position < count_of(pair)) room.scores[position][r] = sum;
  }
  synchronize_block();
  // A warp takes a pair.
  {
    const uint32 r = thread / kWarp, count = count_of(clamp(r));
    constexpr uint32 kParts = kSlice / kWarp;
    float mine[kParts], largest[kParts], sum[kParts];
#pragma unroll
    for (uint32 w = 0; w < kParts; ++w) {
      const uint32 p = w * kWarp + lane;
      mine[w] = largest[w] = count == 0 ? 0.0f : room.scores[p < count ? p : 0][r];
    }
    const float top = reduce_parts(largest, Largest());
#pragma unroll
    for (uint32 w = 0; w < kParts; ++w) {
      const uint32 p = w * kWarp + lane;
      sum[w] = p < count ? exp_float(mine[w] - top) : 0.0f;
      room.scores[p][r] = sum[w];
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
      for (uint32 r = 0; r < kRows; ++r) sums[r] = fused_multiply_add(room.scores[p][r], value, sums[r]);
    }
    for (; p < most; p += groups) {
      const float value = cached(values, p * size + d);
#pragma unroll
      for (uint32 r = 0; r < kRows; ++r)
        if (p < count_of(clamp(r))) sums[r] = fused_multiply_add(room.scores[p][r], value, sums[r]);
    }
  }
  if (groups > 1) {
#pragma unroll
    for (uint32 r = 0; r < kRows; ++r) room.scratch[r][thread] = sums[r];
    synchronize_block();
  }
#pragma unroll
  for (uint32 r = 0; r < kRows; ++r) {
    if (group > 0 || first_pair + r >= pairs) continue;
    const uint32 pair = first_pair + r;
    const bool empty = count_of(pair) == 0;
    for (uint32 g = 1; g < groups; ++g) sums[r] += room.scratch[r][g * size + d];
    if (a.slices == 1) {
      a.out[line_of(pair) + d] = divide(sums[r], room.sums[r]);
    } else {
      float* part = part_of(pair);
      if (!empty) part[2 + d] = sums[r];
      if (d != 0) continue;
      part[0] = room.largest[r];
      part[1] = empty ? 0.0f : room.sums[r];
    }
  }
}

// Grid: slices x key/value heads x groups of kAttentionRows pairs. Heads of at most kMaxRowsHead numbers, no window.
KERNEL LAUNCH_BOUNDS(kThreads) attend_rows(Attention a) {
  begin_kernel();
  SHARED float query[kAttentionRows][kMaxRowsHead];
  SHARED uint4 scores[kSlice * kAttentionRows / 4];  // aligned for loads of several
  SHARED float scratch[kAttentionRows][kThreads];
  SHARED float largest[kAttentionRows], sums[kAttentionRows];
  const RowsRoom room{query, (float(*)[kAttentionRows])scores, scratch, largest, sums};
  if (a.half_cache) attend_many<half_bits>(a, room);
  else attend_many<float>(a, room);
}

}  // namespace shiftadd_cuda
