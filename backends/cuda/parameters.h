// What the host passes to kernels: plain structs of 4- and 8-byte members, the same on both sides.
#pragma once

namespace shiftadd_cuda {

constexpr unsigned kWarp = 32;
constexpr unsigned kTileRows = 32;      // rows of one unit of a packed matrix
constexpr unsigned kBlockColumns = 128; // columns of one unit: one binary matrix instruction
constexpr unsigned kUnitWords = 128;    // 32-bit words of a unit: 32 rows x 128 columns x 1 plane
constexpr unsigned kVectorWords = 64;   // bit-planes of 128 rounded activations: 16 x 128 bits
constexpr unsigned kMaxCalls = 3;       // products with the same input in one launch
constexpr unsigned kMaxPlanes = 8;
constexpr unsigned kMaxWarps = 16;      // of a block that multiplies
constexpr unsigned kTokens = 4;         // tokens that share one read of the weights
constexpr unsigned kGroupTokens = 8;    // of many: the columns of one integer matrix instruction
constexpr unsigned kGroupVectorWords = 512;                             // bytes of 128 rounded activations of 8 tokens
constexpr unsigned kGroupWords = kGroupVectorWords + 2 * kGroupTokens;  // and their factors
constexpr unsigned kWideTiles = 2, kWideGroups = 4;      // tiles and token groups of a warp of packed_prefill_wide
constexpr unsigned kNarrowTiles = 1, kNarrowGroups = 2;  // and of packed_prefill_narrow
constexpr unsigned kPrefillWarps = 8;   // of a block of both, at most
constexpr unsigned kSlice = 128;        // positions of one attention block
constexpr unsigned kMaxHead = 512;      // numbers of a query that are kept in shared memory
constexpr unsigned kAttentionRows = 8;  // of a block of attend_rows: one for each of its warps
constexpr unsigned kMaxRowsHead = 256;  // as kMaxHead, of attend_rows
constexpr unsigned kThreads = 256;      // of a block of an element-wise kernel, of normalize, and of attend

// A packed matrix on the device. Units of 512 bytes, [tile of 32 rows][k-block][plane]; every row group starts a tile.
// Word 4 * lane + i of a unit holds, for g = lane / 4 and t = lane % 4, the signs of row g + 8 i at columns 32 t .. 32 t + 31,
// lowest bit first, 1 for +1: what a lane gives to the binary matrix instruction, in one 16-byte load.
struct Packed {
  const unsigned* planes;
  const float* scales;      // [row group][k-block][plane][128 / group_columns], zeros beyond the matrix
  const float* row_scales;  // [rows], or null
  unsigned rows, columns, plane_count, group_rows, group_columns;
  unsigned row_groups, tiles_per_group, tiles, k_blocks;
};

// One product of a launch: blocks first_block .. belong to it.
struct PackedCall {
  Packed matrix;
  unsigned* vectors;  // [token][row group][k-block][plane][kVectorWords]; of many tokens: [token group][..][..][plane][kGroupWords]:
                      // [four instructions][lane]: two registers of high bytes, two of low ones; then factors as below, per token
  float* factors;     // [token][row group][k-block][plane][2]: A / 32767, and q - kMagic as an integer
  float* out;         // tokens x rows
  unsigned first_block, first_unit;
};

struct PackedCalls {
  PackedCall call[kMaxCalls];
  unsigned count;
  const float* x;        // tokens x columns
  unsigned tokens;
  unsigned units;        // of all calls and tokens, for prepare_vectors
  unsigned tile_warps;   // tiles of a block
  unsigned k_warps;      // warps that share the k-blocks of a tile
};

struct Repack {
  const unsigned char* file;  // the planes as in core/packed_matrix.h
  unsigned* planes;
  unsigned rows, quads, plane_count, group_rows, row_groups, tiles_per_group, tiles, k_blocks;
};

struct Dense {
  const void* data;  // [rows][columns]
  unsigned rows, columns;
  unsigned type;     // 0: float, 1: half, 2: bfloat16
};

struct Attention {
  const float *q, *k, *v;
  void *keys, *values;  // [key/value head][position of capacity][head size]
  float* out;
  float* partial;       // [row][head][slice][2 + head size]: largest score, sum, weighted values
  const float* slopes;  // [heads], or null
  unsigned heads, kv_heads, head_size, capacity, position, rows, window, first_slice, slices, half_cache;
  float scale, cap;
};

}  // namespace shiftadd_cuda
