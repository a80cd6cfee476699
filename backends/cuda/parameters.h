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
constexpr unsigned kMaxHead = 512;      // numbers of a head whose new key and value fit shared memory
constexpr unsigned kScaleGroup = 32;    // numbers of a head, at one position, that share a scale of the 8-bit cache: a warp
constexpr unsigned kAttentionRows = 8;  // of a block of attend_rows: one for each of its warps
constexpr unsigned kPiece = 256;        // numbers of a head between two barriers of attention; attend_rows takes no larger heads
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
  float* residual;    // what the result is added to instead of being written, or null
  unsigned* vectors;  // [token][row group][k-block][plane][kVectorWords]; of many tokens: [token group][..][..][plane][kGroupWords]:
                      // [four instructions][lane]: two registers of high bytes, two of low ones; then factors as below, per token
  float* factors;     // [token][row group][k-block][plane][2]: A / 32767, and q - kMagic as an integer
  float* out;         // tokens x rows
  unsigned first_block, first_unit;
};

// What is made of x before it is rounded, in the same launch; of one token.
struct InputNorm {
  const float *gain, *bias;
  float* out;            // the whole normalized row, which may be read later
  unsigned centered;
  float epsilon;
};
struct InputActivation {
  unsigned kind;         // Activation of core/float_math.h
  unsigned reserved;
  const float* up;       // factor, or null
};

struct PackedCalls {
  PackedCall call[kMaxCalls];
  unsigned count;
  unsigned reserved;
  const float* x;        // tokens x columns
  unsigned tokens;
  unsigned units;        // of all calls and tokens, for prepare_vectors
  unsigned tile_warps;   // tiles of a block
  unsigned k_warps;      // warps that share the k-blocks of a tile
};

// A few words that the host sends as arguments: a copy would cost more time than the launch.
constexpr unsigned kSmallWords = 256;
struct SmallUpload {
  unsigned* to;
  unsigned count, reserved;
  unsigned words[kSmallWords];
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
  void *keys, *values;     // [key/value head][position of capacity][head size]; of the 8-bit cache, scales_offset bytes behind:
                           // [key/value head][position of capacity][groups of kScaleGroup] half-precision scales
  float* out;
  float* partial;          // [row][head][slice][2 + head size]: largest score, sum, weighted values
  unsigned* ended;         // [row][head]: blocks that have ended; zeros before and after a launch
  const float* slopes;     // [heads], or null
  const float* angles;     // of the one row, when q and k are still to be rotated, or null
  const unsigned* origin;  // added to `position`, or null
  unsigned long long scales_offset;
  unsigned heads, kv_heads, head_size, rotary_size, capacity, position, rows, window, first_slice, slices;
  unsigned half_cache, append;  // append: attend_slice also stores the one new position
  float scale, cap;
};

struct FindLargest {
  const float* values;
  float* parts;     // [block][2]: a number, and its index as bits
  unsigned* ended;  // blocks that have ended; 0 before and after a launch
  unsigned* out;
  unsigned count, reserved;
};

struct Basis {
  const float *x, *signs, *matrix;  // x: one row per block; matrix: size x size
  float* out;
  unsigned size, width;             // hidden = size x width
  float* room;                      // a row per block, for rows that do not fit shared memory
};

}  // namespace shiftadd_cuda
