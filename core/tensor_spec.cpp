#include "core/tensor_spec.h"

#include <string>

namespace shiftadd {
namespace {

constexpr double kMaxInteger = 9007199254740992.0;  // 2^53
constexpr double kMaxSize = 1 << 24;

constexpr const char* kRoleNames[kRoleCount] = {
    "embedding", "head", "position embedding", "embedding norm", "bias of the embedding norm", "input projection",
    "output projection", "final norm", "bias of the final norm", "attention norm", "bias of the attention norm", "query",
    "key", "value", "attention output", "query bias", "key bias", "value bias", "attention output bias", "query norm",
    "key norm", "post-attention norm", "feed-forward norm", "bias of the feed-forward norm", "gate", "up", "down",
    "gate bias", "up bias", "down bias", "post-feed-forward norm"};

struct Shape {
  uint32_t rows, columns;
};

Shape expected_shape(const ModelSpec& spec, Role role) {
  const uint32_t hidden = spec.hidden_size, embedding = spec.embedding_size, feed_forward = spec.feed_forward_size;
  const uint32_t q = spec.heads * spec.head_size, kv = spec.kv_heads * spec.head_size;
  switch (role) {
    case Role::embedding: case Role::head: return {spec.vocabulary_size, embedding};
    case Role::position_embedding: return {spec.first_position + spec.context_limit, hidden};
    case Role::project_in: return {hidden, embedding};
    case Role::project_out: return {embedding, hidden};
    case Role::query: return {q, hidden};
    case Role::key: case Role::value: return {kv, hidden};
    case Role::attention_output: return {hidden, q};
    case Role::gate: case Role::up: return {feed_forward, hidden};
    case Role::down: return {hidden, feed_forward};
    case Role::query_bias: return {q, 1};
    case Role::key_bias: case Role::value_bias: return {kv, 1};
    case Role::query_norm: case Role::key_norm: return {spec.head_size, 1};
    case Role::gate_bias: case Role::up_bias: return {feed_forward, 1};
    case Role::embedding_norm: case Role::embedding_norm_bias: case Role::final_norm: case Role::final_norm_bias:
    case Role::attention_norm: case Role::attention_norm_bias: case Role::attention_output_bias:
    case Role::post_attention_norm: case Role::feed_forward_norm: case Role::feed_forward_norm_bias: case Role::down_bias:
    case Role::post_feed_forward_norm: return {hidden, 1};
  }
  return {};
}

Status parse_dense(SpecReader& reader, TensorSpec* out) {
  DenseMatrix& matrix = out->dense;
  matrix.dtype = static_cast<DType>(reader.integer(3, 0, kDTypeCount - 1));
  matrix.rows = out->rows;
  matrix.columns = out->columns;
  const uint32_t stored_rows = reader.integer32(9, 1, kMaxSize);
  matrix.stored_columns = reader.integer32(10, 1, kMaxSize);
  matrix.transposed = reader.flag(11);
  RowMap& map = matrix.map;
  map.first = reader.integer32(12, 0, kMaxSize);
  map.inner = reader.integer32(13, 1, kMaxSize);
  map.inner_stride = reader.integer32(14, 0, kMaxSize);
  map.middle = reader.integer32(15, 1, kMaxSize);
  map.middle_stride = reader.integer32(16, 0, kMaxSize);
  map.outer_stride = reader.integer32(17, 0, kMaxSize);
  out->added = static_cast<float>(reader.numbers[18]);
  if (!reader.ok || !std::isfinite(out->added))
    return bad_format("model description: the " + name_of(*out) + " has a number that is out of range");
  // The stored rows grow with a, b and c, so that these bounds hold for all.
  const uint64_t outer = (uint64_t{matrix.rows} + uint64_t{map.inner} * map.middle - 1) / (uint64_t{map.inner} * map.middle);
  const uint64_t last = map.first + (outer - 1) * map.outer_stride + uint64_t{map.middle - 1} * map.middle_stride +
                        uint64_t{map.inner - 1} * map.inner_stride;
  const BlockFormat& format = format_of(matrix.dtype);
  const bool blocks = format.values > 1;
  const uint32_t line = matrix.transposed ? stored_rows : matrix.stored_columns;
  const uint32_t lines = matrix.transposed ? matrix.stored_columns : stored_rows;
  // A row may not stand for many: what a model needs is then bounded by its files.
  if (line != matrix.columns || last >= lines || matrix.rows > lines || (blocks && (matrix.transposed || matrix.stored_columns % format.values != 0)))
    return bad_format("the " + name_of(*out) + " does not lie inside its stored tensor");
  const uint64_t bytes = stored_rows * row_bytes(matrix.dtype, matrix.stored_columns);
  if (out->data.bytes != bytes)
    return bad_format("the " + name_of(*out) + " has " + std::to_string(out->data.bytes) + " bytes but needs " +
                      std::to_string(bytes));
  return ok_status();
}

Status parse_packed(SpecReader& reader, size_t files, TensorSpec* out) {
  if (is_vector(out->role) || out->role == Role::position_embedding || out->role == Role::project_in ||
      out->role == Role::project_out)
    return bad_format("the " + name_of(*out) + " cannot be packed");
  PackedShape& shape = out->shape;
  shape.rows = out->rows;
  shape.columns = out->columns;
  shape.planes = reader.integer32(9, 1, kMaxPlanes);
  shape.group_rows = reader.integer32(10, 1, kMaxSize);
  shape.group_columns = reader.integer32(11, 1, 8);
  const double exponent = reader.numbers[12];
  if (!(exponent >= -100 && exponent <= 100 && std::floor(exponent) == exponent)) reader.ok = false;
  else shape.scale_exponent = static_cast<int32_t>(exponent);
  out->scales = reader.range(13, files);
  shape.has_row_scales = reader.numbers[16] != -1;
  if (shape.has_row_scales) out->row_scales = reader.range(16, files);
  out->float_scales = reader.flag(19);
  if (!reader.ok) return bad_format("model description: the " + name_of(*out) + " has a number that is out of range");
  if (Status status = shape.check(); !status.ok()) return bad_format("the " + name_of(*out) + ": " + status.message);
  const uint64_t scale_bytes = (out->float_scales ? sizeof(float) : sizeof(uint16_t)) * shape.scale_count();
  if (out->data.bytes != shape.plane_bytes() || out->scales.bytes != scale_bytes ||
      (shape.has_row_scales && out->row_scales.bytes != uint64_t{2} * shape.rows))
    return bad_format("the " + name_of(*out) + ": the sizes of planes, scales or row scales do not fit its shape");
  return ok_status();
}

}  // namespace

FileRange SpecReader::range(size_t index, size_t files) {
  FileRange result;
  result.file = integer32(index, 0, static_cast<double>(files) - 1);
  result.offset = integer(index + 1, 0, kMaxInteger);
  result.bytes = integer(index + 2, 0, kMaxInteger);
  return result;
}

bool is_vector(Role role) {
  switch (role) {
    case Role::embedding: case Role::head: case Role::position_embedding: case Role::project_in: case Role::project_out:
    case Role::query: case Role::key: case Role::value: case Role::attention_output: case Role::gate: case Role::up:
    case Role::down: return false;
    default: return true;
  }
}

std::string name_of(const TensorSpec& tensor) {
  std::string name = kRoleNames[static_cast<size_t>(tensor.role)];
  if (is_in_block(tensor.role)) name += " of layer " + std::to_string(tensor.layer);
  return name;
}

Status parse_tensor_spec(const double* numbers, size_t files, const ModelSpec& spec, TensorSpec* out) {
  SpecReader reader{numbers};
  out->role = static_cast<Role>(reader.integer(0, 0, kRoleCount - 1));
  out->layer = reader.integer32(1, 0, is_in_block(out->role) ? spec.layers - 1.0 : 0);
  out->packed = reader.flag(2);
  out->rows = reader.integer32(4, 1, kMaxSize);
  out->columns = reader.integer32(5, 1, kMaxSize);
  out->data = reader.range(6, files);
  if (!reader.ok) return bad_format("model description: a tensor has a number that is out of range");
  const Shape wanted = expected_shape(spec, out->role);
  if (out->rows != wanted.rows || out->columns != wanted.columns)
    return bad_format("the " + name_of(*out) + " has shape " + std::to_string(out->rows) + " x " +
                      std::to_string(out->columns) + " but the model needs " + std::to_string(wanted.rows) + " x " +
                      std::to_string(wanted.columns));
  return out->packed ? parse_packed(reader, files, out) : parse_dense(reader, out);
}

}  // namespace shiftadd
