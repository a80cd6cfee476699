// The binary description of a model: shapes, offsets and hyperparameters, filled by TypeScript (sdk/src/model-spec.ts),
// which alone knows configs, families and file formats. It is an array of doubles, so that every transport can pass it
// unchanged; all integers are exact. parse_model_spec checks each number before anything is opened.
//
//   header (kSpecHeader numbers), rotary frequencies, rotation (hidden size signs, then size x size signs), tensors
//   (kSpecTensor numbers each)
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/packed_matrix.h"
#include "core/rotation.h"
#include "core/status.h"
#include "core/tensor.h"

namespace shiftadd {

constexpr double kSpecVersion = 1;
constexpr size_t kSpecHeader = 16;
constexpr size_t kSpecTensor = 20;

// Header, in order:
//   0 spec version, 1 vocabulary size, 2 hidden size, 3 layers, 4 heads, 5 key/value heads, 6 head size,
//   7 feed-forward size, 8 context limit (positions), 9 norm epsilon, 10 attention scale, 11 rotary frequencies
//   (head size / 2), 12 tensors, 13 size of the rotation (core/rotation.h; 0: none), 14 and 15 zero
// Tensor, in order:
//   0 role, 1 layer (0 for roles outside the blocks), 2 kind (0 dense, 1 packed), 3 element type of dense data
//   (0 f32, 1 f16, 2 bf16), 4 rows, 5 columns (a vector is 1 x n), 6 file, 7 byte offset, 8 bytes (dense data or
//   planes), 9 planes, 10 group rows, 11 group columns, 12 scale exponent, 13 scales file, 14 offset, 15 bytes,
//   16 row scales file (-1: none), 17 offset, 18 bytes, 19 type of scales (0 codes, 1 f32)

enum class Role : uint32_t {
  embedding = 0,
  head = 1,  // absent when tied to the embedding
  final_norm = 2,
  attention_norm = 3,
  query = 4,
  key = 5,
  value = 6,
  attention_output = 7,
  feed_forward_norm = 8,
  gate = 9,
  up = 10,
  down = 11,
};
constexpr uint32_t kRoleCount = 12;

struct FileRange {
  uint32_t file = 0;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

struct TensorSpec {
  Role role = Role::embedding;
  uint32_t layer = 0;
  bool packed = false;
  DType dtype = DType::f32;
  uint32_t rows = 0;
  uint32_t columns = 0;
  FileRange data;         // dense elements or planes
  PackedShape shape;      // packed only
  FileRange scales;       // packed only
  bool float_scales = false;  // packed only: f32 values in the place of codes
  FileRange row_scales;   // packed with shape.has_row_scales only
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
  std::vector<double> rope_frequencies;
  Rotation rotation;
  std::vector<TensorSpec> tensors;
};

// As messages name it: "query of layer 3".
std::string name_of(const TensorSpec& tensor);

// Checks the numbers and that every tensor has the shape that the hyperparameters ask for, each role once per layer.
Status parse_model_spec(const double* numbers, size_t count, size_t file_count, ModelSpec* out);

}  // namespace shiftadd
