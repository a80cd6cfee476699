// Attention of many tokens at once: a block takes one slice of positions and kAttentionRows (token, query head) pairs that share a
// key/value head, so that keys and values are read and widened once for them. Every number is computed as attend in
// attention.cuh computes it: the same bits. Without windows only: there, slices of two tokens begin at different positions.
#pragma once

#include "backends/cuda/attention.cuh"

namespace shiftadd_cuda {

constexpr uint32 kRowsOfThread = kAttentionRows / 2;  // pairs whose scores of one position a thread computes

// Shared memory of a block. Of every pair: its place among (token, query head), how many positions of the slice it sees.
struct RowsRoom {
  AttentionRoom join;                    // for join_slices, and parts for weigh_rows
  float (*query)[kPiece];
  float (*scores)[kAttentionRows];       // [position], later the weights
  SliceSum* totals;
  uint32 *places, *counts, *ends_last;
};

// Scores of one position and kRowsOfThread pairs from `first_row` on, before scale.
template <class Element>
DEVICE void score_rows(const RowsRoom& room, const Cached<Element>& keys, uint32 position, bool aligned, uint32 size, uint32 first_row,
                       float (&scores)[kRowsOfThread]) {
  for (uint32 d = 0; d < size; d += 8) {
    Eight<Element> eight;
    keys.load(eight, position, d, size, aligned, size - d);
#pragma unroll
    for (uint32 r = 0; r < kRowsOfThread; ++r) {
      float sum = 0;
#pragma unroll
      for (uint32 j = 0; j < 8; ++j) sum = fused_multiply_add(room.query[first_row + r][d + j], eight.at(j), sum);
      scores[r] += eight.times_factor(sum);
    }
  }
}

template <class Element>
DEVICE void attend_many(const Attention& a, const RowsRoom& room) {
  constexpr uint32 kRows = kAttentionRows;
  const uint32 block = block_x(), kv_head = block_y(), size = a.head_size, thread = thread_index();
  const uint32 heads = a.heads / a.kv_heads, first_pair = block_z() * kRows, pairs = a.rows * heads;
  const uint32 used = pairs - first_pair < kRows ? pairs - first_pair : kRows, start = (a.first_slice + block) * kSlice;
  const bool aligned = size % 8 == 0;
  if (thread < kRows) {
    const uint32 pair = first_pair + (thread < used ? thread : used - 1);  // those beyond are the last once more, and not stored
    const uint32 row = pair / heads, visible = a.position + row + 1, last = start + kSlice < visible ? start + kSlice : visible;
    room.places[thread] = row * a.heads + kv_head * heads + pair % heads;
    room.counts[thread] = last > start ? last - start : 0;
  }
  synchronize_block();
  const auto part_of = [&](uint32 r) { return a.partial + ((uint64)room.places[r] * a.slices + block) * (2 + size); };
  const uint32 least = room.counts[0], most = room.counts[kRows - 1];  // pairs ascend with their tokens
  if (most == 0) {
    if (a.slices > 1 && thread < used) part_of(thread)[1] = 0;
  } else {
    const Cached<Element> keys = cached<Element>(a, a.keys, kv_head, start), values = cached<Element>(a, a.values, kv_head, start);
#pragma unroll
    for (uint32 r = 0; r < kRows; ++r) room.query[r][thread] = thread < size ? a.q[(uint64)room.places[r] * size + thread] : 0.0f;
    synchronize_block();
    const uint32 position = thread % kSlice, first_row = thread / kSlice * kRowsOfThread;
    if (position < most) {
      float scores[kRowsOfThread] = {};
      score_rows(room, keys, position, aligned, size, first_row, scores);
#pragma unroll
      for (uint32 i = 0; i < kRowsOfThread; ++i) {
        const uint32 r = first_row + i, row = room.places[r] / a.heads, head = room.places[r] % a.heads;
        float score = scores[i] * a.scale;
        if (a.cap > 0) score = a.cap * tanh_float(divide(score, a.cap));
        if (a.slopes) score -= a.slopes[head] * (float)(a.position + row - (start + position));
        room.scores[position][r] = score;
      }
    }
    synchronize_block();
    // A warp takes a pair.
    {
      const uint32 r = thread / kWarp, lane = thread % kWarp;
      float mine[kSlice / kWarp];
      const SliceSum total = weigh_scores(&room.scores[0][r], kRows, room.counts[r], mine);
#pragma unroll
      for (uint32 i = 0; i < kSlice / kWarp; ++i) room.scores[lane + i * kWarp][r] = mine[i];
      if (lane == 0) room.totals[r] = total;
    }
    synchronize_block();
    const uint32 chunks = (size + 7) / 8, groups = kThreads / chunks, group = thread / chunks, d = thread % chunks * 8;
    float sums[kRows][8] = {};
    if (group < groups)
      for (uint32 p = group; p < most; p += groups) {
        Eight<Element> eight;
        values.load(eight, p, d, size, aligned, size - d);
        // Positions that all see, then those that some see: adding a product with a weight of zero would not keep every bit.
        const bool all = p < least;
#pragma unroll
        for (uint32 r = 0; r < kRows; ++r) {
          if (!all && p >= room.counts[r]) continue;
          const float weight = eight.times_factor(room.scores[p][r]);
#pragma unroll
          for (uint32 j = 0; j < 8; ++j) sums[r][j] = fused_multiply_add(weight, eight.at(j), sums[r][j]);
        }
      }
#pragma unroll
    for (uint32 r = 0; r < kRows; ++r) {
      synchronize_block();
      if (group < groups)
#pragma unroll
        for (uint32 j = 0; j < 8; ++j) room.join.parts[group * chunks * 8 + d + j] = sums[r][j];
      synchronize_block();
      if (r >= used) continue;
      const SliceSum total = room.totals[r];
      const bool empty = room.counts[r] == 0;
      if (thread < size && !empty) {
        float value = 0;
        for (uint32 g = 0; g < groups; ++g) value += room.join.parts[g * chunks * 8 + thread];
        if (a.slices == 1) a.out[(uint64)room.places[r] * size + thread] = divide(value, total.sum);
        else part_of(r)[2 + thread] = value;
      }
      if (a.slices > 1 && thread == 0) {
        part_of(r)[0] = total.largest;
        part_of(r)[1] = empty ? 0.0f : total.sum;
      }
    }
  }
  if (a.slices == 1) return;
  publish_results();
  synchronize_block();
  if (thread < used) room.ends_last[thread] = add_one(a.ended + room.places[thread]) == a.slices - 1;
  synchronize_block();
  publish_results();
  for (uint32 r = 0; r < used; ++r) {
    if (room.ends_last[r] == 0) continue;
    const uint32 place = room.places[r];
    join_slices(a, room.join, a.partial + (uint64)place * a.slices * (2 + size), a.out + (uint64)place * size);
    if (thread == 0) a.ended[place] = 0;  // for the next launch
  }
}

#define ROWS_ROOM() \
  SHARED float query[kAttentionRows][kPiece]; \
  SHARED float scores[kSlice][kAttentionRows]; \
  SHARED float parts[kThreads * 8]; \
  SHARED float join_scores[kSlice], weights[kSlice], scratch[kThreads]; \
  SHARED SliceSum totals[kAttentionRows]; \
  SHARED uint32 places[kAttentionRows], counts[kAttentionRows], ends_last[kAttentionRows]; \
  const RowsRoom room{{0, parts, join_scores, weights, scratch, 0, 0}, query, scores, totals, places, counts, ends_last}

// Grid: slices x key/value heads x groups of kAttentionRows pairs. Heads of at most kPiece numbers, no window.
KERNEL LAUNCH_BOUNDS(kThreads) attend_rows(Attention a) {
  begin_kernel();
  ROWS_ROOM();
  if (a.half_cache) attend_many<half_bits>(a, room);
  else attend_many<float>(a, room);
}
KERNEL LAUNCH_BOUNDS(kThreads) attend_rows_int8(Attention a) {
  begin_kernel();
  ROWS_ROOM();
  attend_many<int8>(a, room);
}

}  // namespace shiftadd_cuda
