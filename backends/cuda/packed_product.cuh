// Products of packed matrices with a few tokens, on integers:
//
//   t[c] = x[c] * scale of (row group of r, c, plane)    per (token, row group, plane, k-block of 128 columns)
//   A = max |t|,  v[c] = rne(32767 / A * t[c]),  q = sum of v
//   y[r] += A / 32767 * float(sum over c of +-v[c])      fused multiply and add, sum = 2 * (sum of v where the sign is +) - q
//
// The sum is an exact integer below 2^22, so that nothing depends on how it is computed; the order of the floating-point
// additions is fixed by the shape of the matrix alone: k-blocks of a warp in steps of k_warps, planes ascending, then warps.
// The signs times the bit-planes of v are an AND and a population count, which the binary matrix unit does for 16 rows, 128
// columns and 8 bit-planes at once. docs/decisions/0010-cuda-products.md says why this is not the CPU's definition.
#pragma once

#include "backends/cuda/operations.cuh"

namespace shiftadd_cuda {

constexpr float kRange = 32767.0f;
constexpr float kTinyRange = 1e-30f;      // below this A counts as zero; it keeps 32767 / A finite
constexpr uint32 kMagic = 0x4b400000u;    // 1.5 * 2^23 as a float: adding an integer below 2^22 to the bits adds it to the value
constexpr float kMagicFloat = 12582912.0f;

// Transposes 32 x 32 bits: bit i of lane j becomes bit j of lane i.
DEVICE uint32 transpose_bits(uint32 x, uint32 lane) {
  uint32 low = 0x0000ffffu;
#pragma unroll
  for (uint32 step = 16; step > 0; step /= 2) {
    const uint32 other = shuffle_xor(x, step);
    x = lane & step ? (x & ~low) | ((other >> step) & low) : (x & low) | ((other & low) << step);
    low ^= low << (step / 2);
  }
  return x;
}

// One (token, row group, k-block, plane) of a product, for one warp, and the scales of a lane's columns.
struct InputUnit {
  const PackedCall* call;
  uint32 unit, plane, k_block, row_group, token;  // unit: in the call
  float scales[4];

  // Column w * 32 + lane of the k-block.
  DEVICE_MEMBER uint32 column(uint32 w) const { return k_block * kBlockColumns + thread_index() % kWarp + 32 * w; }
};

// Reads weights only.
DEVICE InputUnit find_unit(const PackedCalls& calls, uint32 unit) {
  uint32 n = 0;
  while (n + 1 < calls.count && unit >= calls.call[n + 1].first_unit) ++n;
  InputUnit found;
  found.call = &calls.call[n];
  found.unit = unit - found.call->first_unit;
  const Packed& matrix = found.call->matrix;
  found.plane = found.unit % matrix.plane_count;
  found.k_block = found.unit / matrix.plane_count % matrix.k_blocks;
  const uint32 outer = found.unit / matrix.plane_count / matrix.k_blocks;
  found.row_group = outer % matrix.row_groups;
  found.token = outer / matrix.row_groups;
  const uint64 scale_unit = ((uint64)found.row_group * matrix.k_blocks + found.k_block) * matrix.plane_count + found.plane;
  const float* scales = matrix.scales + scale_unit * (kBlockColumns / matrix.group_columns);
#pragma unroll
  for (uint32 w = 0; w < 4; ++w) found.scales[w] = scales[(thread_index() % kWarp + 32 * w) / matrix.group_columns];
  return found;
}

// Makes v, A and q. x: number column(w) of the token, 0 beyond the last column.
DEVICE void round_unit(const InputUnit& unit, const float (&x)[4]) {
  const uint32 lane = thread_index() % kWarp;
  float t[4];
  uint32 largest = 0;
#pragma unroll
  for (uint32 w = 0; w < 4; ++w) {
    t[w] = unit.column(w) < unit.call->matrix.columns ? x[w] * unit.scales[w] : 0.0f;
    const uint32 magnitude = bits_of(t[w]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  largest = warp_max(largest);
  const float a = float_of(largest);
  float factor = 0;
  int32 v[4] = {};
  if (largest >= 0x7f800000u) {
    factor = float_of(0x7fc00000u);  // a value is not finite: no output of the row group is
  } else if (a >= kTinyRange) {
    factor = divide(a, kRange);
    const float inverse = divide(kRange, a);
#pragma unroll
    for (uint32 w = 0; w < 4; ++w) v[w] = round_to_int(t[w] * inverse);
  }
  const int32 q = warp_sum(v[0] + v[1] + v[2] + v[3]);
  // Lane j now gets bit-plane j of words 0 and 2, lane 16 + j of words 1 and 3.
  const uint32 first = transpose_bits(((uint32)v[0] & 0xffffu) | (uint32)v[1] << 16, lane);
  const uint32 second = transpose_bits(((uint32)v[2] & 0xffffu) | (uint32)v[3] << 16, lane);
  uint32* words = unit.call->vectors + (uint64)unit.unit * kVectorWords;
  const uint32 bit = lane % 16, t_word = lane / 16;  // the lane that reads bit-plane `bit` at word t: 4 * (bit % 8) + t
  words[((bit % 8) * 4 + t_word) * 2 + bit / 8] = first;
  words[((bit % 8) * 4 + t_word + 2) * 2 + bit / 8] = second;
  if (lane == 0) {
    unit.call->factors[(uint64)unit.unit * 2] = factor;
    unit.call->factors[(uint64)unit.unit * 2 + 1] = float_of((uint32)q - kMagic);
  }
}

// A warp's unit; a warp beyond the last takes the last once more, and stores nothing.
DEVICE uint32 unit_of_warp() { return block_x() * (block_threads() / kWarp) + thread_index() / kWarp; }

KERNEL LAUNCH_BOUNDS(kThreads) prepare_vectors(PackedCalls calls) {
  allow_next_kernel();
  const uint32 index = unit_of_warp();
  if (index >= calls.units) return;
  const InputUnit unit = find_unit(calls, index);
  wait_for_previous_kernel();
  float x[4];
#pragma unroll
  for (uint32 w = 0; w < 4; ++w)
    x[w] = unit.column(w) < calls.call[0].matrix.columns ? calls.x[(uint64)unit.token * calls.call[0].matrix.columns + unit.column(w)] : 0.0f;
  round_unit(unit, x);
}

// The same after a norm of one token's row, which every block measures for itself.
KERNEL LAUNCH_BOUNDS(kThreads) prepare_normalized(PackedCalls calls, InputNorm input) {
  allow_next_kernel();
  SHARED float scratch[kThreads / kWarp];
  const uint32 index = unit_of_warp(), columns = calls.call[0].matrix.columns;
  const InputUnit unit = find_unit(calls, index < calls.units ? index : calls.units - 1);
  float gains[4];
#pragma unroll
  for (uint32 w = 0; w < 4; ++w) gains[w] = unit.column(w) < columns ? input.gain[unit.column(w)] : 0.0f;
  wait_for_previous_kernel();
  float x[4];
#pragma unroll
  for (uint32 w = 0; w < 4; ++w) x[w] = unit.column(w) < columns ? calls.x[unit.column(w)] : 0.0f;
  const NormParts norm = measure_row(calls.x, columns, input.centered, input.epsilon, scratch);
  if (index >= calls.units) return;
  const bool keeps = unit.call == &calls.call[0] && unit.row_group == 0 && unit.plane == 0;
#pragma unroll
  for (uint32 w = 0; w < 4; ++w) {
    if (unit.column(w) >= columns) continue;
    x[w] = norm(x[w], gains[w], input.bias, unit.column(w));
    if (keeps) input.out[unit.column(w)] = x[w];
  }
  round_unit(unit, x);
}

// The same after an activation.
KERNEL LAUNCH_BOUNDS(kThreads) prepare_activated(PackedCalls calls, InputActivation input) {
  allow_next_kernel();
  const uint32 index = unit_of_warp(), columns = calls.call[0].matrix.columns;
  if (index >= calls.units) return;
  const InputUnit unit = find_unit(calls, index);
  wait_for_previous_kernel();
  float x[4];
#pragma unroll
  for (uint32 w = 0; w < 4; ++w) {
    const uint64 at = (uint64)unit.token * columns + unit.column(w);
    x[w] = unit.column(w) < columns ? activation(input.kind, calls.x[at]) : 0.0f;
    if (input.up && unit.column(w) < columns) x[w] *= input.up[at];
  }
  round_unit(unit, x);
}

// The sums of 32 rows with one vector; lane (g, t) gets that of row g + 8 t.
DEVICE int32 sum_rows(const uint4& signs, const uint2& vector, const int32 (&weight)[4], uint32 lane) {
  int32 low[2][4], high[2][4];
  and_popcount(low[0], signs.x, signs.y, vector.x);
  and_popcount(high[0], signs.x, signs.y, vector.y);
  and_popcount(low[1], signs.z, signs.w, vector.x);
  and_popcount(high[1], signs.z, signs.w, vector.y);
  uint32 sum[4];  // of rows g, g + 8, g + 16, g + 24 over this lane's 4 of 16 bit-planes
#pragma unroll
  for (uint32 i = 0; i < 4; ++i)
    sum[i] = (uint32)(weight[0] * low[i / 2][i % 2 * 2] + weight[1] * low[i / 2][i % 2 * 2 + 1] +
                      weight[2] * high[i / 2][i % 2 * 2] + weight[3] * high[i / 2][i % 2 * 2 + 1]);
  // Lanes of a quad exchange halves twice, so that each ends with one whole sum.
  const bool odd = lane & 1, upper = lane & 2;
  const uint32 a = (odd ? sum[1] : sum[0]) + shuffle_xor(odd ? sum[0] : sum[1], 1);
  const uint32 b = (odd ? sum[3] : sum[2]) + shuffle_xor(odd ? sum[2] : sum[3], 1);
  return (int32)((upper ? b : a) + shuffle_xor(upper ? a : b, 2));
}

template <uint32 kPlanes, uint32 kCount>
DEVICE void multiply_tile(const PackedCalls& calls) {
  SHARED float partial[kMaxWarps][kCount][kTileRows];
  allow_next_kernel();
  const uint32 lane = thread_index() % kWarp, warp = thread_index() / kWarp;
  uint32 n = 0;
  while (n + 1 < calls.count && block_x() >= calls.call[n + 1].first_block) ++n;
  const PackedCall& call = calls.call[n];
  const Packed& matrix = call.matrix;
  const uint32 tile = (block_x() - call.first_block) * calls.tile_warps + warp / calls.k_warps, k_warp = warp % calls.k_warps;
  const bool inside = tile < matrix.tiles;
  const uint32 row_group = inside ? tile / matrix.tiles_per_group : 0, first_token = block_y() * kCount;

  // Bit 2 t of the low and of the high byte, and the next; the highest counts negative: two's complement.
  const uint32 t = lane % 4;
  const int32 weight[4] = {1 << 2 * t, 2 << 2 * t, 256 << 2 * t, t == 3 ? -32768 : 512 << 2 * t};
  float sums[kCount] = {};
  const uint4* planes = (const uint4*)matrix.planes + ((uint64)(inside ? tile : 0) * matrix.k_blocks) * kPlanes * kWarp + lane;
  const uint32 blocks = inside ? matrix.k_blocks : 0;
  const auto load = [&](uint4 (&to)[kPlanes], uint32 k) {
    if (k >= blocks) return;
#pragma unroll
    for (uint32 p = 0; p < kPlanes; ++p) to[p] = stream_load(planes + ((uint64)k * kPlanes + p) * kWarp);
  };
  const auto accumulate = [&](const uint4 (&signs)[kPlanes], uint32 k) {
#pragma unroll
    for (uint32 m = 0; m < kCount; ++m) {
      // Beyond the last token its products are computed again, and not stored.
      const uint32 token = first_token + m < calls.tokens ? first_token + m : calls.tokens - 1;
      const uint64 unit = (((uint64)token * matrix.row_groups + row_group) * matrix.k_blocks + k) * kPlanes;
      const uint2* vectors = (const uint2*)(call.vectors + unit * kVectorWords) + lane;
      const uint2* factors = (const uint2*)call.factors + unit;
      uint2 vector[kPlanes], factor[kPlanes];
#pragma unroll
      for (uint32 p = 0; p < kPlanes; ++p) {
        vector[p] = load_pair(vectors + p * kWarp);
        factor[p] = load_pair(factors + p);
      }
#pragma unroll
      for (uint32 p = 0; p < kPlanes; ++p) {
        const uint32 u = (uint32)sum_rows(signs[p], vector[p], weight, lane);
        sums[m] = fused_multiply_add(float_of(factor[p].x), float_of(2 * u - factor[p].y) - kMagicFloat, sums[m]);
      }
    }
  };
  // Two k-blocks ahead in two sets of registers; with many planes one set fills them, and one k-block is enough to wait for.
  constexpr bool kAhead = kPlanes <= 4;
  const uint32 step = calls.k_warps;
  uint4 even[kPlanes], odd[kPlanes];
  load(even, k_warp);
  if (kAhead) load(odd, k_warp + step);
  wait_for_previous_kernel();  // the weights do not depend on it
  for (uint32 k = k_warp; k < blocks; k += kAhead ? 2 * step : step) {
    accumulate(even, k);
    load(even, k + (kAhead ? 2 * step : step));
    if (!kAhead || k + step >= blocks) continue;
    accumulate(odd, k + step);
    load(odd, k + 3 * step);
  }
#pragma unroll
  for (uint32 m = 0; m < kCount; ++m) partial[warp][m][lane / 4 + 8 * t] = sums[m];
  synchronize_block();
  const uint32 local = inside ? tile % matrix.tiles_per_group * kTileRows + lane : matrix.group_rows;
  const uint32 row = row_group * matrix.group_rows + local;
  if (k_warp != 0 || local >= matrix.group_rows || row >= matrix.rows) return;
  for (uint32 m = 0; m < kCount && first_token + m < calls.tokens; ++m) {
    float sums_of_warps[kMaxWarps];
#pragma unroll
    for (uint32 w = 0; w < kMaxWarps; ++w) sums_of_warps[w] = w < calls.k_warps ? partial[warp + w][m][lane] : 0.0f;
    float sum = sums_of_warps[0];
#pragma unroll
    for (uint32 w = 1; w < kMaxWarps; ++w)
      if (w < calls.k_warps) sum += sums_of_warps[w];
    if (matrix.row_scales) sum = matrix.row_scales[row] * sum;
    const uint64 at = (uint64)(first_token + m) * matrix.rows + row;
    if (call.residual) call.residual[at] += sum;
    else call.out[at] = sum;
  }
}

// One token: 80 registers let three blocks of 8 warps share a multiprocessor, 64 four (_wide), which pays where the blocks are more
// than one wave, even where a few registers spill (benchmarks/results/2026-11-27-cuda-h100.md). Products with more than four planes
// keep what they need.
#define PACKED_PRODUCT(planes, registers, wide_registers) \
  KERNEL REGISTERS(registers) packed_product_##planes##_1(PackedCalls calls) { multiply_tile<planes, 1>(calls); } \
  KERNEL REGISTERS(wide_registers) packed_product_##planes##_wide(PackedCalls calls) { multiply_tile<planes, 1>(calls); } \
  KERNEL LAUNCH_BOUNDS(512) packed_product_##planes##_4(PackedCalls calls) { multiply_tile<planes, kTokens>(calls); }
PACKED_PRODUCT(1, 80, 64)
PACKED_PRODUCT(2, 80, 64)
PACKED_PRODUCT(3, 80, 64)
PACKED_PRODUCT(4, 80, 64)
PACKED_PRODUCT(5, 80, 80)
PACKED_PRODUCT(6, 96, 96)
PACKED_PRODUCT(7, 104, 104)
PACKED_PRODUCT(8, 104, 104)

// One thread makes one word of the device's planes from the file's blocks.
KERNEL LAUNCH_BOUNDS(256) repack_planes(Repack repack) {
  begin_kernel();
  const uint64 index = (uint64)block_x() * block_threads() + thread_index();
  const uint64 words = (uint64)repack.tiles * repack.k_blocks * repack.plane_count * kUnitWords;
  if (index >= words) return;
  const uint32 i = (uint32)(index % 4), lane = (uint32)(index / 4 % kWarp);
  const uint64 unit = index / kUnitWords;
  const uint32 plane = (uint32)(unit % repack.plane_count), k_block = (uint32)(unit / repack.plane_count % repack.k_blocks);
  const uint32 tile = (uint32)(unit / repack.plane_count / repack.k_blocks);
  const uint32 row_group = tile / repack.tiles_per_group, local = tile % repack.tiles_per_group;
  const uint32 group_rows = repack.rows - row_group * repack.group_rows < repack.group_rows
                                ? repack.rows - row_group * repack.group_rows : repack.group_rows;
  const uint32 group_tiles = (group_rows + kTileRows - 1) / kTileRows;
  const uint32 quads = repack.quads - k_block * 8 < 8 ? repack.quads - k_block * 8 : 8;
  const uint64 blocks = ((uint64)row_group * repack.tiles_per_group * repack.quads +
                         (uint64)k_block * 8 * group_tiles + (uint64)local * quads) * repack.plane_count;
  const uint32 row = lane / 4 + 8 * i, shift = row < 16 ? 0 : 4;
  uint32 word = 0;
  for (uint32 half = 0; half < 2; ++half) {
    const uint32 quad = lane % 4 * 2 + half;
    if (quad >= quads) continue;
    const unsigned char* block = repack.file + (blocks + (uint64)quad * repack.plane_count + plane) * 64;
    for (uint32 j = 0; j < 4; ++j) word |= (((uint32)block[16 * j + row % 16] >> shift) & 15u) << (16 * half + 4 * j);
  }
  repack.planes[index] = word;
}

// out[m] = row tokens[m], the bits of unpack_row in core/packed_matrix.cpp.
KERNEL LAUNCH_BOUNDS(256) embed_packed(Packed matrix, const int32* tokens, float* out) {
  begin_kernel();
  const uint32 c = block_x() * block_threads() + thread_index(), row = (uint32)tokens[block_y()];
  if (c >= matrix.columns) return;
  const uint32 row_group = row / matrix.group_rows, local = row % matrix.group_rows, r = local % kTileRows;
  const uint32 tile = row_group * matrix.tiles_per_group + local / kTileRows, k_block = c / kBlockColumns;
  const uint32 column = c % kBlockColumns, groups = kBlockColumns / matrix.group_columns;
  float sum = 0;
  for (uint32 plane = 0; plane < matrix.plane_count; ++plane) {
    const uint64 unit = ((uint64)tile * matrix.k_blocks + k_block) * matrix.plane_count + plane;
    const uint32 word = matrix.planes[unit * kUnitWords + (r % 8 * 4 + column / 32) * 4 + r / 8];
    const float scale =
        matrix.scales[(((uint64)row_group * matrix.k_blocks + k_block) * matrix.plane_count + plane) * groups +
                      column / matrix.group_columns];
    sum += word >> column % 32 & 1 ? scale : -scale;
  }
  out[(uint64)block_y() * matrix.columns + c] = matrix.row_scales ? matrix.row_scales[row] * sum : sum;
}

}  // namespace shiftadd_cuda
