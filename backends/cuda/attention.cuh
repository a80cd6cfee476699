// Causal attention over cached keys and values. A block takes one token, one query head and one slice of 128 positions;
// slices start at multiples of 128, so that a token's result does not depend on the tokens that are read with it. The last
// block of a token and head to end joins the slices, in ascending order. Sums have an order that the shape alone decides.
#pragma once

#include "backends/cuda/operations.cuh"

namespace shiftadd_cuda {

constexpr uint32 kPieceParts = kPiece / 8;    // a thread takes eight at a time: one load of a half-precision cache
constexpr uint32 kLoadsAtOnce = 4;            // of a thread, before it uses the first

// Shared memory of a block.
struct AttentionRoom {
  float *query;    // [kPiece]
  float *parts;    // [kSlice][kPieceParts + 1], later the sums of groups of threads
  float *scores;   // [kSlice]
  float *weights;  // [kSlice]
  float *scratch;  // [kThreads]
  unsigned char *newest;  // keys and values of the step's own position: [2][kMaxHead] elements
  uint32 *last;
};

// Number d of a head, rotated (core/backend.h, rotate); angles: of the row, or null.
DEVICE float rotated(const float* head, const float* angles, uint32 size, uint32 d) {
  if (angles == 0 || d >= size) return head[d];
  const uint32 half = size / 2, i = d < half ? d : d - half;
  const float cosine = angles[2 * i], sine = angles[2 * i + 1], a = head[i], b = head[i + half];
  return d < half ? a * cosine - b * sine : b * cosine + a * sine;
}

DEVICE void store(half_bits* to, float value) { *to = narrow(value); }
DEVICE void store(float* to, float value) { *to = value; }
DEVICE float load(const half_bits* from) { return widen(*from); }
DEVICE float load(const float* from) { return *from; }

// Eight numbers of the cache as they are stored, zeros beyond `count`; at once where they are aligned.
template <class Element>
struct Eight;
template <>
struct Eight<half_bits> {
  uint4 words;
  DEVICE_MEMBER void load(const half_bits* from, bool aligned, uint32 count) {
    if (aligned) {
      words = *(const uint4*)from;
      return;
    }
    uint32 packed[4] = {};
#pragma unroll
    for (uint32 i = 0; i < 8; ++i)
      if (i < count) packed[i / 2] |= (uint32)from[i] << 16 * (i % 2);
    words = {packed[0], packed[1], packed[2], packed[3]};
  }
  DEVICE_MEMBER float at(uint32 i) const {
    const uint32 word = i / 2 == 0 ? words.x : i / 2 == 1 ? words.y : i / 2 == 2 ? words.z : words.w;
    return widen((half_bits)(word >> 16 * (i % 2)));
  }
};
template <>
struct Eight<float> {
  float values[8];
  DEVICE_MEMBER void load(const float* from, bool, uint32 count) {
#pragma unroll
    for (uint32 i = 0; i < 8; ++i) values[i] = i < count ? from[i] : 0.0f;
  }
  DEVICE_MEMBER float at(uint32 i) const { return values[i]; }
};

// Writes keys and values of new positions into the cache, one thread per number.
KERNEL LAUNCH_BOUNDS(kThreads) append_kv(Attention a) {
  begin_kernel();
  const uint32 index = block_x() * kThreads + thread_index(), size = a.head_size;
  if (index >= a.rows * a.kv_heads * size) return;
  const uint32 d = index % size, head = index / size % a.kv_heads, row = index / size / a.kv_heads;
  const uint64 to = ((uint64)head * a.capacity + a.position + row) * size + d;
  if (a.half_cache) {
    store((half_bits*)a.keys + to, a.k[index]);
    store((half_bits*)a.values + to, a.v[index]);
  } else {
    store((float*)a.keys + to, a.k[index]);
    store((float*)a.values + to, a.v[index]);
  }
}

// What a block reads: `count` positions of the slice, of which `newest` (count: none) is not in the cache yet.
template <class Element>
struct SliceView {
  const Element *keys, *values, *newest_key, *newest_value;
  uint32 count, newest, size;
  bool aligned;
  DEVICE_MEMBER const Element* key(uint32 p) const { return p == newest ? newest_key : keys + p * size; }
  DEVICE_MEMBER const Element* value(uint32 p) const { return p == newest ? newest_value : values + p * size; }
};

// The scores of positions thread, which is below `count`: q times key, before scale.
template <class Element>
DEVICE float score_positions(const Attention& a, const AttentionRoom& room, const SliceView<Element>& slice, const float* q) {
  const uint32 thread = thread_index();
  float score = 0;
  for (uint32 first = 0; first < slice.size; first += kPiece) {
    const uint32 width = slice.size - first < kPiece ? slice.size - first : kPiece, chunks = (width + 7) / 8;
    if (thread < width) room.query[thread] = rotated(q, a.angles, a.rotary_size, first + thread);
    else if (thread < chunks * 8) room.query[thread] = 0;
    synchronize_block();
    for (uint32 base = thread; base < slice.count * chunks; base += kLoadsAtOnce * kThreads) {
      Eight<Element> keys[kLoadsAtOnce];
#pragma unroll
      for (uint32 i = 0; i < kLoadsAtOnce; ++i) {
        const uint32 item = base + i * kThreads, d = item % chunks * 8;
        if (item < slice.count * chunks) keys[i].load(slice.key(item / chunks) + first + d, slice.aligned, width - d);
      }
#pragma unroll
      for (uint32 i = 0; i < kLoadsAtOnce; ++i) {
        const uint32 item = base + i * kThreads, chunk = item % chunks;
        if (item >= slice.count * chunks) continue;
        float sum = 0;
#pragma unroll
        for (uint32 j = 0; j < 8; ++j) sum = fused_multiply_add(room.query[chunk * 8 + j], keys[i].at(j), sum);
        room.parts[item / chunks * (kPieceParts + 1) + chunk] = sum;
      }
    }
    synchronize_block();
    if (thread < slice.count)
      for (uint32 chunk = 0; chunk < chunks; ++chunk) score += room.parts[thread * (kPieceParts + 1) + chunk];
  }
  return score;
}

// Weighted values of numbers first .. first + width: every groups-th position of a thread, then the groups in ascending order. A
// thread below `width` gets its number.
template <class Element>
DEVICE float weigh_values(const AttentionRoom& room, const SliceView<Element>& slice, uint32 first, uint32 width) {
  const uint32 thread = thread_index(), chunks = (width + 7) / 8, groups = kThreads / chunks;
  const uint32 group = thread / chunks, d = thread % chunks * 8;
  float sums[8] = {};
  if (group < groups)
    for (uint32 base = group; base < slice.count; base += kLoadsAtOnce * groups) {
      Eight<Element> values[kLoadsAtOnce];
#pragma unroll
      for (uint32 i = 0; i < kLoadsAtOnce; ++i)
        if (base + i * groups < slice.count) values[i].load(slice.value(base + i * groups) + first + d, slice.aligned, width - d);
#pragma unroll
      for (uint32 i = 0; i < kLoadsAtOnce; ++i) {
        if (base + i * groups >= slice.count) continue;
        const float weight = room.weights[base + i * groups];
#pragma unroll
        for (uint32 j = 0; j < 8; ++j) sums[j] = fused_multiply_add(weight, values[i].at(j), sums[j]);
      }
    }
  synchronize_block();  // the last parts may still be read
  if (group < groups)
#pragma unroll
    for (uint32 j = 0; j < 8; ++j) room.parts[group * chunks * 8 + d + j] = sums[j];
  synchronize_block();
  float value = 0;
  if (thread < width)
    for (uint32 g = 0; g < groups; ++g) value += room.parts[g * chunks * 8 + thread];
  return value;
}

struct SliceSum {
  float largest, sum;
};

// exp(score - largest) of positions lane, lane + 32, .. below `count`, zeros behind; by one warp. stride: between scores.
DEVICE SliceSum weigh_scores(const float* scores, uint32 stride, uint32 count, float (&mine)[kSlice / kWarp]) {
  const uint32 lane = thread_index() % kWarp;
  SliceSum total{float_of(0xff800000u), 0};
#pragma unroll
  for (uint32 i = 0; i < kSlice / kWarp; ++i) {
    const uint32 p = lane + i * kWarp;
    mine[i] = p < count ? scores[p * stride] : 0.0f;
    if (p < count) total.largest = Largest()(total.largest, mine[i]);
  }
  for (uint32 mask = kWarp / 2; mask > 0; mask /= 2) total.largest = Largest()(total.largest, shuffle_xor(total.largest, mask));
#pragma unroll
  for (uint32 i = 0; i < kSlice / kWarp; ++i) {
    mine[i] = lane + i * kWarp < count ? exp_float(mine[i] - total.largest) : 0.0f;
    total.sum += mine[i];
  }
  for (uint32 mask = kWarp / 2; mask > 0; mask /= 2) total.sum += shuffle_xor(total.sum, mask);
  return total;
}

// Slices of one token and head, joined in ascending order; empty ones (a sum of 0) are left out.
DEVICE void join_slices(const Attention& a, const AttentionRoom& room, const float* parts, float* out) {
  const uint32 thread = thread_index(), stride = 2 + a.head_size;
  float largest = float_of(0xff800000u);
  for (uint32 s = thread; s < a.slices; s += kThreads)
    if (load_shared_result(parts + (uint64)s * stride + 1) != 0) largest = Largest()(largest, load_shared_result(parts + (uint64)s * stride));
  largest = reduce_block(largest, room.scratch, Largest());
  float sum = 0;
  for (uint32 first_d = 0; first_d < a.head_size; first_d += kThreads) {
    const uint32 d = first_d + thread;
    float value = 0;
    sum = 0;
    for (uint32 first = 0; first < a.slices; first += kSlice) {
      const uint32 count = a.slices - first < kSlice ? a.slices - first : kSlice;
      synchronize_block();
      if (thread < count) {
        const float* part = parts + (uint64)(first + thread) * stride;
        const float share = load_shared_result(part + 1);
        room.weights[thread] = share == 0 ? 0.0f : exp_float(load_shared_result(part) - largest);
        room.scores[thread] = share;
      }
      synchronize_block();
#pragma unroll 8
      for (uint32 s = 0; s < count; ++s) {
        sum += room.scores[s] * room.weights[s];
        // What an empty slice left is not defined.
        if (d < a.head_size && room.scores[s] != 0) value += load_shared_result(parts + (uint64)(first + s) * stride + 2 + d) * room.weights[s];
      }
    }
    if (d < a.head_size) out[d] = divide(value, sum);
  }
}

template <class Element>
DEVICE void attend(const Attention& a, const AttentionRoom& room) {
  const uint32 block = block_x(), head = block_y(), row = block_z(), size = a.head_size, thread = thread_index();
  const uint32 position = a.position + (a.origin ? *a.origin : 0);
  const uint32 visible = position + row + 1, seen = a.window > 0 && visible > a.window ? visible - a.window : 0;
  const uint32 start = (a.first_slice + block) * kSlice;
  const uint32 first = start > seen ? start : seen, last = start + kSlice < visible ? start + kSlice : visible;
  const uint32 group_heads = a.heads / a.kv_heads, kv_head = head / group_heads;
  const uint64 line = ((uint64)row * a.heads + head) * size, base = ((uint64)kv_head * a.capacity + first) * size;
  SliceView<Element> slice{(const Element*)a.keys + base, (const Element*)a.values + base, 0, 0,
                           last > first ? last - first : 0, kSlice, size, size % 8 == 0};
  if (a.append && slice.count > 0 && last == visible) {
    // This block sees the step's own position: it makes key and value as they are stored, and one block of the heads that share
    // them stores them.
    Element *key = (Element*)room.newest, *value = key + kMaxHead;
    for (uint32 d = thread; d < size; d += kThreads) {
      store(key + d, rotated(a.k + (uint64)kv_head * size, a.angles, a.rotary_size, d));
      store(value + d, a.v[(uint64)kv_head * size + d]);
      if (head % group_heads > 0) continue;
      const uint64 to = ((uint64)kv_head * a.capacity + position) * size + d;
      ((Element*)a.keys)[to] = key[d];
      ((Element*)a.values)[to] = value[d];
    }
    slice.newest_key = key;
    slice.newest_value = value;
    slice.newest = slice.count - 1;
    synchronize_block();
  }
  float* parts = a.partial + ((uint64)row * a.heads + head) * a.slices * (2 + size);
  float* part = parts + (uint64)block * (2 + size);
  if (slice.count == 0) {
    if (a.slices > 1 && thread == 0) part[1] = 0;
  } else {
    float score = score_positions(a, room, slice, a.q + line) * a.scale;
    if (a.cap > 0) score = a.cap * tanh_float(divide(score, a.cap));
    if (a.slopes) score -= a.slopes[head] * (float)(visible - 1 - (first + thread));
    if (thread < kSlice) room.scores[thread] = score;
    synchronize_block();
    // Every warp makes all of this, so that there is one barrier less.
    float mine[kSlice / kWarp];
    const SliceSum total = weigh_scores(room.scores, 1, slice.count, mine);
    if (thread < kWarp)
#pragma unroll
      for (uint32 i = 0; i < kSlice / kWarp; ++i) room.weights[thread + i * kWarp] = mine[i];
    synchronize_block();
    for (uint32 first_d = 0; first_d < size; first_d += kPiece) {
      const uint32 width = size - first_d < kPiece ? size - first_d : kPiece;
      const float value = weigh_values(room, slice, first_d, width);
      if (thread >= width) continue;
      if (a.slices == 1) a.out[line + first_d + thread] = divide(value, total.sum);
      else part[2 + first_d + thread] = value;
    }
    if (a.slices > 1 && thread == 0) {
      part[0] = total.largest;
      part[1] = total.sum;
    }
  }
  if (a.slices == 1) return;
  // Whoever ends last sees what all others have written.
  publish_results();
  synchronize_block();
  if (thread == 0) *room.last = add_one(a.ended + (uint64)row * a.heads + head) == a.slices - 1;
  synchronize_block();
  if (*room.last == 0) return;
  publish_results();
  join_slices(a, room, parts, a.out + line);
  if (thread == 0) a.ended[(uint64)row * a.heads + head] = 0;  // for the next launch
}

// Grid: slices x heads x rows.
KERNEL LAUNCH_BOUNDS(kThreads) attend_slice(Attention a) {
  begin_kernel();
  SHARED float query[kPiece];
  SHARED float parts[kSlice * (kPieceParts + 1)];
  SHARED float scores[kSlice];
  SHARED float weights[kSlice];
  SHARED float scratch[kThreads];
  SHARED uint4 newest[2 * kMaxHead * sizeof(float) / sizeof(uint4)];
  SHARED uint32 last[1];
  const AttentionRoom room{query, parts, scores, weights, scratch, (unsigned char*)newest, last};
  if (a.half_cache) attend<half_bits>(a, room);
  else attend<float>(a, room);
}

}  // namespace shiftadd_cuda
