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
  unsigned char *newest;  // of the step's own position: keys and values, [2][kMaxHead] elements, then their scales
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

// ---- the 8-bit cache: kScaleGroup numbers of a head at one position are integers from -127 to 127 times one half-precision scale ----

typedef signed char int8;

struct Quantized {
  int8 number;
  half_bits scale;
};

// A group, a number per lane of a warp, with zeros beyond the head. The scale is rounded up and numbers are divided by what it became,
// so that every integer is within 127. What is not finite makes the scale so.
DEVICE Quantized quantize(float value) {
  // Bits of floats without a sign are in the order of the floats.
  const float largest = float_of(warp_max(bits_of(value) & 0x7fffffffu));
  half_bits scale = narrow(divide(largest, 127.0f));
  if (widen(scale) * 127.0f < largest) ++scale;
  return {scale == 0 ? (int8)0 : (int8)round_to_int(divide(value, widen(scale))), scale};
}

DEVICE uint32 scales_of(uint32 size) { return (size + kScaleGroup - 1) / kScaleGroup; }

// Eight numbers of the cache as they are stored, zeros beyond `count`; at once where they are aligned. The 8-bit cache has integers
// and a factor on sums of them.
template <class Element>
struct Eight;
template <>
struct Eight<int8> {
  uint2 words;  // each byte plus 128
  float factor;
  DEVICE_MEMBER void load(const int8* from, const half_bits* scale, bool aligned, uint32 count) {
    factor = widen(*scale);
    if (aligned) {
      words = *(const uint2*)from;
    } else {
      uint32 packed[2] = {};
#pragma unroll
      for (uint32 i = 0; i < 8; ++i)
        if (i < count) packed[i / 4] |= ((uint32)from[i] & 255u) << 8 * (i % 4);
      words = {packed[0], packed[1]};
    }
    words.x ^= 0x80808080u;
    words.y ^= 0x80808080u;
  }
  // A byte as the lowest bits of 2^23: cheaper than a conversion.
  DEVICE_MEMBER float at(uint32 i) const {
    return float_of(select_bytes(i < 4 ? words.x : words.y, 0x4b000000u, 0x7440u + i % 4)) - 8388736.0f;
  }
  DEVICE_MEMBER float times_factor(float sum) const { return sum * factor; }
};
template <>
struct Eight<half_bits> {
  uint4 words;
  DEVICE_MEMBER void load(const half_bits* from, const half_bits*, bool aligned, uint32 count) {
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
  DEVICE_MEMBER float times_factor(float sum) const { return sum; }
};
template <>
struct Eight<float> {
  float values[8];
  DEVICE_MEMBER void load(const float* from, const half_bits*, bool, uint32 count) {
#pragma unroll
    for (uint32 i = 0; i < 8; ++i) values[i] = i < count ? from[i] : 0.0f;
  }
  DEVICE_MEMBER float at(uint32 i) const { return values[i]; }
  DEVICE_MEMBER float times_factor(float sum) const { return sum; }
};

// Keys or values of one key/value head, from some position on.
template <class Element>
struct Cached {
  Element* numbers;   // [position][head size]
  half_bits* scales;  // [position][groups of a head]; of the 8-bit cache alone
  DEVICE_MEMBER void load(Eight<Element>& eight, uint32 position, uint32 d, uint32 size, bool aligned, uint32 count) const {
    const half_bits* scale = sizeof(Element) == 1 ? scales + position * scales_of(size) + d / kScaleGroup : 0;
    eight.load(numbers + position * size + d, scale, aligned, count);
  }
};

template <class Element>
DEVICE Cached<Element> cached(const Attention& a, void* cache, uint32 kv_head, uint32 position) {
  const uint64 line = (uint64)kv_head * a.capacity + position;
  half_bits* scales = (half_bits*)((unsigned char*)cache + a.scales_offset);
  return {(Element*)cache + line * a.head_size, scales + line * scales_of(a.head_size)};
}

// Number d of a position, by the warp that has the group of d.
DEVICE void store_quantized(const Cached<int8>& to, uint32 d, uint32 size, const Quantized& from) {
  if (d < size) to.numbers[d] = from.number;
  if (d % kScaleGroup == 0) to.scales[d / kScaleGroup] = from.scale;
}

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

// The same for the 8-bit cache, one warp per group of numbers.
KERNEL LAUNCH_BOUNDS(kThreads) append_kv_int8(Attention a) {
  begin_kernel();
  const uint32 groups = scales_of(a.head_size), warp = block_x() * (kThreads / kWarp) + thread_index() / kWarp;
  if (warp >= a.rows * a.kv_heads * groups) return;
  const uint32 group = warp % groups, head = warp / groups % a.kv_heads, row = warp / groups / a.kv_heads;
  const uint32 d = group * kScaleGroup + thread_index() % kWarp;
  const uint64 line = ((uint64)row * a.kv_heads + head) * a.head_size;
  const Quantized key = quantize(d < a.head_size ? a.k[line + d] : 0.0f), value = quantize(d < a.head_size ? a.v[line + d] : 0.0f);
  store_quantized(cached<int8>(a, a.keys, head, a.position + row), d, a.head_size, key);
  store_quantized(cached<int8>(a, a.values, head, a.position + row), d, a.head_size, value);
}

// What a block reads: `count` positions of the slice, of which `newest` (count: none) is not in the cache yet.
template <class Element>
struct SliceView {
  Cached<Element> keys, values, newest_key, newest_value;
  uint32 count, newest, size;
  bool aligned;
  DEVICE_MEMBER void load_key(Eight<Element>& eight, uint32 p, uint32 d, uint32 width) const {
    (p == newest ? newest_key : keys).load(eight, p == newest ? 0 : p, d, size, aligned, width);
  }
  DEVICE_MEMBER void load_value(Eight<Element>& eight, uint32 p, uint32 d, uint32 width) const {
    (p == newest ? newest_value : values).load(eight, p == newest ? 0 : p, d, size, aligned, width);
  }
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
        if (item < slice.count * chunks) slice.load_key(keys[i], item / chunks, first + d, width - d);
      }
#pragma unroll
      for (uint32 i = 0; i < kLoadsAtOnce; ++i) {
        const uint32 item = base + i * kThreads, chunk = item % chunks;
        if (item >= slice.count * chunks) continue;
        float sum = 0;
#pragma unroll
        for (uint32 j = 0; j < 8; ++j) sum = fused_multiply_add(room.query[chunk * 8 + j], keys[i].at(j), sum);
        room.parts[item / chunks * (kPieceParts + 1) + chunk] = keys[i].times_factor(sum);
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
        if (base + i * groups < slice.count) slice.load_value(values[i], base + i * groups, first + d, width - d);
#pragma unroll
      for (uint32 i = 0; i < kLoadsAtOnce; ++i) {
        if (base + i * groups >= slice.count) continue;
        const float weight = values[i].times_factor(room.weights[base + i * groups]);
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

// Key and value of the step's own position into the view, and into the cache with `keep`.
template <class Element>
DEVICE void make_newest(const Attention& a, const SliceView<Element>& slice, uint32 kv_head, uint32 position, bool keep) {
  const Cached<Element> keys = cached<Element>(a, a.keys, kv_head, position), values = cached<Element>(a, a.values, kv_head, position);
  for (uint32 d = thread_index(); d < slice.size; d += kThreads) {
    store(slice.newest_key.numbers + d, rotated(a.k + (uint64)kv_head * slice.size, a.angles, a.rotary_size, d));
    store(slice.newest_value.numbers + d, a.v[(uint64)kv_head * slice.size + d]);
    if (!keep) continue;
    keys.numbers[d] = slice.newest_key.numbers[d];
    values.numbers[d] = slice.newest_value.numbers[d];
  }
}
DEVICE void make_newest(const Attention& a, const SliceView<int8>& slice, uint32 kv_head, uint32 position, bool keep) {
  const Cached<int8> keys = cached<int8>(a, a.keys, kv_head, position), values = cached<int8>(a, a.values, kv_head, position);
  const uint64 line = (uint64)kv_head * slice.size;
  // Whole warps: a group is one of them.
  for (uint32 d = thread_index(); d - thread_index() % kWarp < slice.size; d += kThreads) {
    const Quantized key = quantize(d < slice.size ? rotated(a.k + line, a.angles, a.rotary_size, d) : 0.0f);
    const Quantized value = quantize(d < slice.size ? a.v[line + d] : 0.0f);
    store_quantized(slice.newest_key, d, slice.size, key);
    store_quantized(slice.newest_value, d, slice.size, value);
    if (!keep) continue;
    store_quantized(keys, d, slice.size, key);
    store_quantized(values, d, slice.size, value);
  }
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
  const uint64 line = ((uint64)row * a.heads + head) * size;
  SliceView<Element> slice{cached<Element>(a, a.keys, kv_head, first), cached<Element>(a, a.values, kv_head, first), {}, {},
                           last > first ? last - first : 0, kSlice, size, size % 8 == 0};
  if (a.append && slice.count > 0 && last == visible) {
    // This block sees the step's own position: it makes key and value as they are stored, and one block of the heads that share
    // them stores them.
    Element* numbers = (Element*)room.newest;
    half_bits* scales = sizeof(Element) == 1 ? (half_bits*)(numbers + 2 * kMaxHead) : 0;
    slice.newest_key = {numbers, scales};
    slice.newest_value = {numbers + kMaxHead, sizeof(Element) == 1 ? scales + kMaxHead / kScaleGroup : 0};
    slice.newest = slice.count - 1;
    make_newest(a, slice, kv_head, position, head % group_heads == 0);
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

#define ATTENTION_ROOM(newest_bytes) \
  SHARED float query[kPiece]; \
  SHARED float parts[kSlice * (kPieceParts + 1)]; \
  SHARED float scores[kSlice]; \
  SHARED float weights[kSlice]; \
  SHARED float scratch[kThreads]; \
  SHARED uint4 newest[(newest_bytes) / sizeof(uint4)]; \
  SHARED uint32 last[1]; \
  const AttentionRoom room{query, parts, scores, weights, scratch, (unsigned char*)newest, last}

// Grid: slices x heads x rows.
KERNEL LAUNCH_BOUNDS(kThreads) attend_slice(Attention a) {
  begin_kernel();
  ATTENTION_ROOM(2 * kMaxHead * sizeof(float));
  if (a.half_cache) attend<half_bits>(a, room);
  else attend<float>(a, room);
}
// A kernel of its own, so that its registers are not those of the others.
KERNEL LAUNCH_BOUNDS(kThreads) attend_slice_int8(Attention a) {
  begin_kernel();
  ATTENTION_ROOM(2 * kMaxHead + 2 * (kMaxHead / kScaleGroup) * sizeof(half_bits));
  attend<int8>(a, room);
}

}  // namespace shiftadd_cuda
