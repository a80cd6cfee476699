// The binary description of a model: shapes, offsets and hyperparameters, filled by TypeScript (sdk/src/model-spec.ts),
// which alone knows configs, families and file formats. It is an array of doubles, so that every transport can pass it
// unchanged; all integers are exact. parse_model_spec checks each number before anything is opened.
//
//   header (kSpecHeader numbers)
//   rotary sets: a factor on cosine and sine, then rotary size / 2 angles per position, in radians
//   ALiBi slopes, one per head, or none
//   layers: window of the attention in positions (0: all), rotary set (-1: no rotary positions)
//   rotation (hidden size signs, then size x size signs)
//   tensors (kSpecTensor numbers each)
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/float_math.h"
#include "core/packed_matrix.h"
#include "core/rotation.h"
#include "core/status.h"
#include "core/tensor.h"

namespace shiftadd {

constexpr double kSpecVersion = 2;
constexpr size_t kSpecHeader = 32;
constexpr size_t kSpecLayer = 2;
constexpr size_t kSpecTensor = 20;

// Header, in order:
//   0 spec version, 1 vocabulary size, 2 hidden size, 3 layers, 4 heads, 5 key/value heads, 6 head size,
//   7 feed-forward size, 8 context limit (positions), 9 norm epsilon, 10 attention scale, 11 rotary sets, 12 tensors,
//   13 size of the rotation (core/rotation.h; 0: none), 14 rotary size (numbers of a head that are rotated),
//   15 norm (0 root mean square, 1 layer), 16 norms behind the sums in the place of in front of the layers (0, 1),
//   17 attention and feed-forward read the same input (0, 1), 18 activation, 19 gated (0, 1), 20 embedding size,
//   21 factor on embeddings, 22 soft cap of attention scores (0: none), 23 soft cap of logits (0: none),
//   24 row of the position embedding for position 0, 25 ALiBi (0, 1), 26 length beyond which every layer takes the
//   rotary set after its own (0: never), 27 to 31 zero
// Tensor, in order:
//   0 role, 1 layer (0 for roles outside the blocks), 2 kind (0 dense, 1 packed), 3 DType of dense data, 4 rows,
//   5 columns (a vector is n x 1), 6 file, 7 byte offset, 8 bytes (dense data or planes)
//   packed: 9 planes, 10 group rows, 11 group columns, 12 scale exponent, 13 scales file, 14 offset, 15 bytes,
//   16 row scales file (-1: none), 17 offset, 18 bytes, 19 type of scales (0 codes, 1 f32)
//   dense: 9 stored rows, 10 stored columns, 11 transposed (0, 1), 12 to 17 RowMap in its order, 18 added to every
//   element of a vector, 19 zero

enum class Role : uint32_t {
  embedding,
  head,  // absent when tied to the embedding
  position_embedding,
  embedding_norm, embedding_norm_bias,
  project_in, project_out,  // between embedding size and hidden size
  final_norm, final_norm_bias,
  // of every block:
  attention_norm, attention_norm_bias,
  query, key, value, attention_output,
  query_bias, key_bias, value_bias, attention_output_bias,
  query_norm, key_norm,  // of every head
  post_attention_norm,   // of the attention's output, before it is added
  feed_forward_norm, feed_forward_norm_bias,
  gate, up, down,
  gate_bias, up_bias, down_bias,
  post_feed_forward_norm,
};
constexpr uint32_t kRoleCount = static_cast<uint32_t>(Role::post_feed_forward_norm) + 1;

constexpr bool is_in_block(Role role) { return role >= Role::attention_norm; }
bool is_vector(Role role);

struct FileRange {
  uint32_t file = 0;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

struct TensorSpec {
  Role role = Role::embedding;
  uint32_t layer = 0;
  bool packed = false;
  uint32_t rows = 0;
  uint32_t columns = 0;
  FileRange data;         // dense elements or planes
  DenseMatrix dense;      // dense only, without data
  float added = 0;        // dense vectors only
  PackedShape shape;      // packed only
  FileRange scales;       // packed only
  bool float_scales = false;  // packed only: f32 values in the place of codes
  FileRange row_scales;   // packed with shape.has_row_scales only
};

struct RotarySet {
  double factor = 1;  // on cosine and sine
  std::vector<double> frequencies;
};

struct LayerSpec {
  uint32_t window = 0;  // positions that a token sees, itself included; 0: all
  int32_t rotary = 0;   // index of the rotary set; -1: none
};

struct ModelSpec {
  uint32_t vocabulary_size = 0;
  uint32_t hidden_size = 0;
  uint32_t layers = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_size = 0;
  uint32_t feed_forward_size = 0;
  uint32_t context_limit = 0;
  float norm_epsilon = 0;
  float attention_scale = 0;
  uint32_t rotary_size = 0;
  bool layer_norm = false;
  bool norm_behind = false;
  bool parallel_blocks = false;
  Activation activation = Activation::silu;
  bool gated = true;
  uint32_t embedding_size = 0;
  float embedding_factor = 1;
  float attention_cap = 0, logit_cap = 0;
  uint32_t first_position = 0;
  uint32_t rotary_switch = 0;
  std::vector<RotarySet> rotary;
  std::vector<float> slopes;  // ALiBi, one per head; empty: none
  std::vector<LayerSpec> layer_specs;
  Rotation rotation;
  std::vector<TensorSpec> tensors;

  // The tuner knows gradients of blocks like Llama's alone.
  bool llama_like() const;
};

// As messages name it: "query of layer 3".
std::string name_of(const TensorSpec& tensor);

// Checks the numbers and that every tensor has the shape that the hyperparameters ask for, each role once per layer.
Status parse_model_spec(const double* numbers, size_t count, size_t file_count, ModelSpec* out);

}  // namespace shiftadd
