// Products of packed matrices with many tokens, on the 8-bit integer matrix unit. The definition is that of
// packed_product.cuh, additions in the same order, so that both give the same bits and a prompt may be cut anywhere.
//
// v = 256 * high + low, high signed, low unsigned; a sign bit is a byte 0 or 2. Over 128 columns the unit sums the high bytes
// where the sign is +; times 256, less q, it goes on with the low bytes, and 2 * (sum of v) - q is there.
//
// A block takes tile_warps * kTiles tiles of one row group, so that they share activations, and 8 * kGroups tokens for each of
// its other warps. Activations come to shared memory one unit ahead, weights to registers.
#pragma once

#include "backends/cuda/packed_product.cuh"

namespace shiftadd_cuda {

// One warp rounds the activations of one token for all planes of one (row group, k-block); a block those of 8 tokens.
// `first_unit` and `units` count blocks here. Behind the last token come zeros.
KERNEL LAUNCH_BOUNDS(256) prepare_bytes(PackedCalls calls) {
  allow_next_kernel();
  const uint32 lane = thread_index() % kWarp, local = thread_index() / kWarp;
  uint32 n = 0;
  while (n + 1 < calls.count && block_x() >= calls.call[n + 1].first_unit) ++n;
  const PackedCall& call = calls.call[n];
  const Packed& matrix = call.matrix;
  const uint32 index = block_x() - call.first_unit;  // (token group, row group, k-block)
  const uint32 k_block = index % matrix.k_blocks, outer = index / matrix.k_blocks;
  const uint32 row_group = outer % matrix.row_groups, token = outer / matrix.row_groups * kGroupTokens + local;
  const uint32 groups = kBlockColumns / matrix.group_columns;
  // A lane takes the four columns whose bytes are one register of the matrix instruction: 32 word + bit + 8 i.
  const uint32 word = lane / 8, bit = lane % 8;
  uint32* to = call.vectors + (uint64)index * matrix.plane_count * kGroupWords;
  const float* scales = matrix.scales + ((uint64)row_group * matrix.k_blocks + k_block) * matrix.plane_count * groups;
  wait_for_previous_kernel();
  float x[4];
#pragma unroll
  for (uint32 i = 0; i < 4; ++i) {
    const uint32 c = k_block * kBlockColumns + 32 * word + bit + 8 * i;
    x[i] = c < matrix.columns && token < calls.tokens ? calls.x[(uint64)token * matrix.columns + c] : 0.0f;
  }
  for (uint32 plane = 0; plane < matrix.plane_count; ++plane, to += kGroupWords, scales += groups) {
    float t[4], scale[4];
    if (matrix.group_columns == 8) {
      const float4 four = ((const float4*)scales)[word];
      scale[0] = four.x, scale[1] = four.y, scale[2] = four.z, scale[3] = four.w;
    } else {
#pragma unroll
      for (uint32 i = 0; i < 4; ++i) scale[i] = scales[32 * word + bit + 8 * i];
    }
    uint32 largest = 0;
#pragma unroll
    for (uint32 i = 0; i < 4; ++i) {
      t[i] = x[i] * scale[i];
      const uint32 magnitude = bits_of(t[i]) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    largest = warp_max(largest);
    const float a = float_of(largest);
    float factor = 0;
    uint32 v[4] = {kMagic, kMagic, kMagic, kMagic};  // less kMagic: adding to kMagicFloat rounds as round_to_int does
    if (largest >= 0x7f800000u) {
      factor = float_of(0x7fc00000u);  // as in prepare_unit
    } else if (a >= kTinyRange) {
      factor = divide(a, kRange);
      const float inverse = divide(kRange, a);
#pragma unroll
      for (uint32 i = 0; i < 4; ++i) v[i] = bits_of(t[i] * inverse + kMagicFloat);
    }
    const uint32 q = (uint32)warp_sum((int32)(v[0] + v[1] + v[2] + v[3])) - kWarp * 4 * kMagic;
    // The low 16 bits of v are those of the integer.
    const uint32 first = select_bytes(v[0], v[1], 0x5140), second = select_bytes(v[2], v[3], 0x5140);
    const uint32 low = select_bytes(first, second, 0x5410), high = select_bytes(first, second, 0x7632);
    // Two lanes have the two registers of one instruction: one stores both high ones, the other both low ones.
    const bool odd = lane & 1;
    const uint32 other = shuffle_xor(odd ? high : low, 1);
    uint2* pairs = (uint2*)to + ((bit / 2 * kWarp + local * 4 + word) * 2 + (odd ? 1 : 0));
    *pairs = odd ? uint2{other, low} : uint2{high, other};
    if (lane == 0) ((uint2*)(to + kGroupVectorWords))[local] = uint2{bits_of(factor), kMagic - q};
  }
}

// The registers of four instructions from one word of signs: byte i of register b is 2 where bit 8 i + b is 1.
DEVICE void unpack_signs(uint32 (&registers)[8], uint32 word) {
  constexpr uint32 kMask = 0x02020202u;
  registers[0] = word << 1 & kMask;
#pragma unroll
  for (uint32 b = 1; b < 8; ++b) registers[b] = word >> (b - 1) & kMask;
}

// A unit of a tile. They are taken in the order of the additions: k-blocks of one remainder by k_warps after the other (a turn), planes
// ascending.
struct Place {
  uint32 turn, k_block, plane;
};

template <uint32 kTiles, uint32 kGroups>
DEVICE void multiply_many(const PackedCalls& calls) {
  constexpr uint32 kQuads = kGroupWords / 4, kSums = kTiles * kGroups * 2;
  allow_next_kernel();
  const uint32 lane = thread_index() % kWarp, warp = thread_index() / kWarp, warps = block_threads() / kWarp;
  const uint32 g = lane / 4, t = lane % 4;
  uint32 n = 0;
  while (n + 1 < calls.count && block_x() >= calls.call[n + 1].first_block) ++n;
  const PackedCall& call = calls.call[n];
  const Packed& matrix = call.matrix;
  const uint32 block_tiles = calls.tile_warps * kTiles, token_warps = warps / calls.tile_warps;
  const uint32 blocks_of_group = (matrix.tiles_per_group + block_tiles - 1) / block_tiles;
  const uint32 row_group = (block_x() - call.first_block) / blocks_of_group;
  const uint32 first_tile = (block_x() - call.first_block) % blocks_of_group * block_tiles + warp % calls.tile_warps * kTiles;
  const uint32 tile = row_group * matrix.tiles_per_group + first_tile;
  const uint32 first_group = block_y() * token_warps * kGroups, own_group = warp / calls.tile_warps * kGroups;
  const uint32 all_groups = (calls.tokens + kGroupTokens - 1) / kGroupTokens;
  const uint32 groups = all_groups - first_group < token_warps * kGroups ? all_groups - first_group : token_warps * kGroups;
  const uint32 own_groups = own_group >= groups ? 0 : groups - own_group < kGroups ? groups - own_group : kGroups;
  const uint32 tile_units = matrix.k_blocks * matrix.plane_count;
  bool inside[kTiles];
#pragma unroll
  for (uint32 i = 0; i < kTiles; ++i)
    inside[i] = own_groups > 0 && first_tile + i < matrix.tiles_per_group && tile + i < matrix.tiles;
  const bool busy = inside[0];
  // A tile that is not there is the one before once more.
  const uint4* const planes = (const uint4*)matrix.planes + (uint64)(busy ? tile : 0) * tile_units * kWarp + lane;

  // Shared: two units' activations, then this warp's totals, which only it touches.
  uint4* const buffers = dynamic_shared();
  const uint32 buffer_quads = token_warps * kGroups * kQuads;
  float4* const totals = (float4*)(buffers + 2 * buffer_quads) + warp * kSums * kWarp + lane;
  const uint64 group_stride = (uint64)matrix.row_groups * tile_units * kQuads;
  const uint4* const vectors = (const uint4*)call.vectors + (first_group + warp) * group_stride +
                               (uint64)row_group * tile_units * kQuads + lane;

  const uint32 turns = calls.k_warps < matrix.k_blocks ? calls.k_warps : matrix.k_blocks;
  const auto advance = [&](Place& place) {
    if (++place.plane < matrix.plane_count) return;
    place.plane = 0;
    place.k_block += calls.k_warps;
    if (place.k_block < matrix.k_blocks) return;
    place.k_block = ++place.turn;
  };
  const auto unit_of = [&](const Place& place) { return place.k_block * matrix.plane_count + place.plane; };
  uint4 signs[kTiles] = {};
  const auto load_signs = [&](uint32 unit) {
    if (!busy) return;
#pragma unroll
    for (uint32 i = 0; i < kTiles; ++i)
      signs[i] = stream_load(planes + (uint64)unit * kWarp + (i > 0 && inside[i] ? tile_units * kWarp : 0));
  };
  // Every warp copies a token group, or several.
  const auto copy_vectors = [&](uint32 unit, uint32 buffer) {
    const uint4* from = vectors + (uint64)unit * kQuads;
    uint4* to = buffers + buffer * buffer_quads + warp * kQuads + lane;
    for (uint32 group = warp; group < groups; group += warps, from += warps * group_stride, to += warps * kQuads) {
#pragma unroll
      for (uint32 i = 0; i < kQuads / kWarp; ++i) copy_async(to + i * kWarp, from + i * kWarp);
      if (lane < kQuads % kWarp) copy_async(to + kQuads / kWarp * kWarp, from + kQuads / kWarp * kWarp);
    }
    commit_copies();
  };

  float sums[kTiles][kGroups][2][4] = {};
  Place place{}, next{};
  load_signs(0);
  wait_for_previous_kernel();  // the weights do not depend on it
  copy_vectors(0, 0);
  for (uint32 buffer = 0; place.turn < turns; buffer ^= 1) {
    wait_for_copies();
    synchronize_block();  // all have copied this unit, and all are done with the one before, whose place the next takes
    uint32 bytes[kTiles][4][8];
#pragma unroll
    for (uint32 i = 0; i < kTiles; ++i) {
      unpack_signs(bytes[i][0], signs[i].x);
      unpack_signs(bytes[i][1], signs[i].y);
      unpack_signs(bytes[i][2], signs[i].z);
      unpack_signs(bytes[i][3], signs[i].w);
    }
    advance(next);
    if (next.turn < turns) {
      copy_vectors(unit_of(next), buffer ^ 1);
      load_signs(unit_of(next));
    }
    if (busy) {
      // A group behind the last one may be computed from what is there, and is not stored: without a branch between two groups
      // the loads of the second start before the sums of the first. Without any, registers would not do.
      const uint4* vector = buffers + buffer * buffer_quads + own_group * kQuads;
#pragma unroll
      for (uint32 group = 0; group < kGroups; ++group, vector += kQuads) {
        if (group % 2 == 0 && group >= own_groups) continue;
        uint4 b[4];
#pragma unroll
        for (uint32 j = 0; j < 4; ++j) b[j] = vector[j * kWarp + lane];
        const uint4 factors = vector[kGroupVectorWords / 4 + t];  // of tokens 2 t and 2 t + 1
#pragma unroll
        for (uint32 i = 0; i < kTiles; ++i)
#pragma unroll
          for (uint32 half = 0; half < 2; ++half) {
            const uint32(&upper)[8] = bytes[i][2 * half];
            const uint32(&lower)[8] = bytes[i][2 * half + 1];
            int32 sum[4] = {};
#pragma unroll
            for (uint32 j = 0; j < 4; ++j)
              multiply_signed(sum, upper[2 * j], lower[2 * j], upper[2 * j + 1], lower[2 * j + 1], b[j].x, b[j].y);
#pragma unroll
            for (uint32 c = 0; c < 4; ++c) sum[c] = (int32)((uint32)sum[c] * 256 + (c % 2 ? factors.w : factors.y));
#pragma unroll
            for (uint32 j = 0; j < 4; ++j)
              multiply_unsigned(sum, upper[2 * j], lower[2 * j], upper[2 * j + 1], lower[2 * j + 1], b[j].z, b[j].w);
#pragma unroll
            for (uint32 c = 0; c < 4; ++c)
              sums[i][group][half][c] = fused_multiply_add(float_of(c % 2 ? factors.z : factors.x),
                                                           float_of((uint32)sum[c]) - kMagicFloat, sums[i][group][half][c]);
          }
      }
    }
    // A turn ends: what a warp of packed_product has at its end. They are added in their order.
    if (next.turn != place.turn && busy && turns > 1) {
      const bool last = next.turn == turns;
#pragma unroll
      for (uint32 s = 0; s < kSums; ++s) {
        float(&part)[4] = sums[s / (2 * kGroups)][s / 2 % kGroups][s % 2];
        if (place.turn > 0) {
          const float4 total = totals[s * kWarp];
          part[0] = total.x + part[0];
          part[1] = total.y + part[1];
          part[2] = total.z + part[2];
          part[3] = total.w + part[3];
        }
        if (last) continue;
        totals[s * kWarp] = float4{part[0], part[1], part[2], part[3]};
        part[0] = part[1] = part[2] = part[3] = 0;
      }
    }
    place = next;
  }
#pragma unroll
  for (uint32 i = 0; i < kTiles; ++i) {
    if (!inside[i]) continue;
#pragma unroll
    for (uint32 r = 0; r < 4; ++r) {
      const uint32 local = (first_tile + i) * kTileRows + g + 8 * r, row = row_group * matrix.group_rows + local;
      if (local >= matrix.group_rows || row >= matrix.rows) continue;
      const float scale = matrix.row_scales ? matrix.row_scales[row] : 1.0f;
#pragma unroll
      for (uint32 group = 0; group < kGroups; ++group)
#pragma unroll
        for (uint32 c = 0; c < 2; ++c) {
          const uint32 token = (first_group + own_group + group) * kGroupTokens + 2 * t + c;
          if (token < calls.tokens)
            call.out[(uint64)token * matrix.rows + row] = scale * sums[i][group][r / 2][r % 2 * 2 + c];
        }
    }
  }
}

// Wide: 64 rows x 32 tokens of a warp, two reads of shared memory for 16 matrix instructions. Narrow: 32 rows x 16 tokens, for
// prompts and row groups that would leave a wide block idle.
KERNEL LAUNCH_BOUNDS(256) packed_prefill_wide(PackedCalls calls) { multiply_many<kWideTiles, kWideGroups>(calls); }
KERNEL LAUNCH_BOUNDS(256) packed_prefill_narrow(PackedCalls calls) { multiply_many<kNarrowTiles, kNarrowGroups>(calls); }

}  // namespace shiftadd_cuda
