#include "core/model_spec.h"

#include <array>
#include <cmath>
#include <string>

namespace shiftadd {
namespace {

constexpr double kMaxInteger = 9007199254740992.0;  // 2^53

bool is_integer(double value, double low, double high) {
  return value >= low && value <= high && std::floor(value) == value;
}

constexpr const char* kRoleNames[kRoleCount] = {
    "embedding", "head", "final norm", "attention norm", "query",          "key",
    "value",     "attention output", "feed-forward norm", "gate", "up", "down"};

struct Reader {
  const double* numbers;
  bool ok = true;

  uint64_t integer(size_t index, double low, double high) {
    if (!is_integer(numbers[index], low, high)) {
      ok = false;
      return 0;
    }
    return static_cast<uint64_t>(numbers[index]);
  }
  FileRange range(size_t index, size_t files) {
    FileRange result;
    result.file = static_cast<uint32_t>(integer(index, 0, static_cast<double>(files) - 1));
    result.offset = integer(index + 1, 0, kMaxInteger);
    result.bytes = integer(index + 2, 0, kMaxInteger);
    return result;
  }
};

void expected_shape(const ModelSpec& spec, Role role, uint32_t* rows, uint32_t* columns) {
  const uint32_t hidden = spec.hidden_size, q = spec.heads * spec.head_size, kv = spec.kv_heads * spec.head_size;
  switch (role) {
    case Role::embedding: case Role::head: *rows = spec.vocabulary_size, *columns = hidden; return;
    case Role::final_norm: case Role::attention_norm: case Role::feed_forward_norm: *rows = 1, *columns = hidden; return;
    case Role::query: *rows = q, *columns = hidden; return;
    case Role::key: case Role::value: *rows = kv, *columns = hidden; return;
    case Role::attention_output: *rows = hidden, *columns = q; return;
    case Role::gate: case Role::up: *rows = spec.feed_forward_size, *columns = hidden; return;
    case Role::down: *rows = hidden, *columns = spec.feed_forward_size; return;
  }
}

Status parse_tensor(const double* numbers, size_t files, const ModelSpec& spec, TensorSpec* out) {
  Reader reader{numbers};
  out->role = static_cast<Role>(reader.integer(0, 0, kRoleCount - 1));
  const bool in_block = out->role >= Role::attention_norm;
  out->layer = static_cast<uint32_t>(reader.integer(1, 0, in_block ? spec.layers - 1.0 : 0));
  out->packed = reader.integer(2, 0, 1) == 1;
  out->dtype = static_cast<DType>(reader.integer(3, 0, 2));
  out->rows = static_cast<uint32_t>(reader.integer(4, 1, 1 << 24));
  out->columns = static_cast<uint32_t>(reader.integer(5, 1, 1 << 24));
  out->data = reader.range(6, files);
  if (!reader.ok) return bad_format("model description: a tensor has a number that is out of range");

  uint32_t rows = 0, columns = 0;
  expected_shape(spec, out->role, &rows, &columns);
  if (out->rows != rows || out->columns != columns)
    return bad_format("the " + name_of(*out) + " has shape " + std::to_string(out->rows) + " x " +
                      std::to_string(out->columns) + " but the model needs " + std::to_string(rows) + " x " +
                      std::to_string(columns));
  if (!out->packed) {
    const uint64_t bytes = uint64_t{rows} * columns * dtype_bytes(out->dtype);
    if (out->data.bytes != bytes)
      return bad_format("the " + name_of(*out) + " has " + std::to_string(out->data.bytes) + " bytes but needs " +
                        std::to_string(bytes));
    return ok_status();
  }
  if (rows == 1) return bad_format("the " + name_of(*out) + " cannot be packed");

  out->shape.rows = rows;
  out->shape.columns = columns;
  out->shape.planes = static_cast<uint32_t>(reader.integer(9, 1, kMaxPlanes));
  out->shape.group_rows = static_cast<uint32_t>(reader.integer(10, 1, 1 << 24));
  out->shape.group_columns = static_cast<uint32_t>(reader.integer(11, 1, 8));
  if (!is_integer(numbers[12], -100, 100)) reader.ok = false;
  else out->shape.scale_exponent = static_cast<int32_t>(numbers[12]);
  out->scales = reader.range(13, files);
  out->shape.has_row_scales = numbers[16] != -1;
  if (out->shape.has_row_scales) out->row_scales = reader.range(16, files);
  out->float_scales = reader.integer(19, 0, 1) == 1;
  if (!reader.ok) return bad_format("model description: the " + name_of(*out) + " has a number that is out of range");
  if (Status status = out->shape.check(); !status.ok()) return bad_format("the " + name_of(*out) + ": " + status.message);
  const uint64_t scale_bytes = (out->float_scales ? sizeof(float) : sizeof(uint16_t)) * out->shape.scale_count();
  if (out->data.bytes != out->shape.plane_bytes() || out->scales.bytes != scale_bytes ||
      (out->shape.has_row_scales && out->row_scales.bytes != uint64_t{2} * rows))
    return bad_format("the " + name_of(*out) + ": the sizes of planes, scales or row scales do not fit its shape");
  return ok_status();
}

}  // namespace

std::string name_of(const TensorSpec& tensor) {
  std::string name = kRoleNames[static_cast<size_t>(tensor.role)];
  if (tensor.role >= Role::attention_norm) name += " of layer " + std::to_string(tensor.layer);
  return name;
}

Status parse_model_spec(const double* numbers, size_t count, size_t file_count, ModelSpec* out) {
  if (numbers == nullptr || count < kSpecHeader || numbers[0] != kSpecVersion)
    return bad_format("model description: wrong version");
  Reader reader{numbers};
  out->vocabulary_size = static_cast<uint32_t>(reader.integer(1, 1, 1 << 24));
  out->hidden_size = static_cast<uint32_t>(reader.integer(2, 1, 1 << 20));
  out->layers = static_cast<uint32_t>(reader.integer(3, 1, 1 << 12));
  out->heads = static_cast<uint32_t>(reader.integer(4, 1, 1 << 12));
  out->kv_heads = static_cast<uint32_t>(reader.integer(5, 1, 1 << 12));
  out->head_size = static_cast<uint32_t>(reader.integer(6, 2, 1 << 12));
  out->feed_forward_size = static_cast<uint32_t>(reader.integer(7, 1, 1 << 22));
  out->context_limit = static_cast<uint32_t>(reader.integer(8, 1, 1 << 24));
  const uint64_t frequencies = reader.integer(11, 0, 1 << 12), tensors = reader.integer(12, 1, 1 << 20);
  out->norm_epsilon = static_cast<float>(numbers[9]);
  out->attention_scale = static_cast<float>(numbers[10]);
  if (!reader.ok || !(out->norm_epsilon > 0 && out->norm_epsilon < 1) || !std::isfinite(out->attention_scale))
    return bad_format("model description: a hyperparameter is out of range");
  if (out->heads % out->kv_heads != 0) return bad_format("the heads are not a multiple of the key/value heads");
  if (out->head_size % 2 != 0 || frequencies != out->head_size / 2)
    return bad_format("the head size is odd or does not fit the rotary frequencies");
  if (uint64_t{out->heads} * out->head_size > 1 << 24) return bad_format("the heads are too wide");
  const uint64_t size = reader.integer(13, 0, Rotation::kMaxSize);
  const uint64_t signs = size == 0 ? 0 : out->hidden_size + size * size;
  if (!reader.ok || count != kSpecHeader + frequencies + signs + tensors * kSpecTensor)
    return bad_format("model description: wrong length");

  out->rope_frequencies.assign(numbers + kSpecHeader, numbers + kSpecHeader + frequencies);
  for (double frequency : out->rope_frequencies)
    if (!std::isfinite(frequency)) return bad_format("a rotary frequency is not a finite number");

  const double* next = numbers + kSpecHeader + frequencies;
  if (size > 0) {
    out->rotation.size = static_cast<uint32_t>(size);
    out->rotation.signs.assign(next, next + out->hidden_size);
    out->rotation.matrix.assign(next + out->hidden_size, next + signs);
    SHIFTADD_TRY(out->rotation.check());
    next += signs;
  }

  std::vector<std::array<bool, kRoleCount>> seen(out->layers);
  out->tensors.resize(tensors);
  for (size_t i = 0; i < tensors; ++i) {
    TensorSpec& tensor = out->tensors[i];
    SHIFTADD_TRY(parse_tensor(next + i * kSpecTensor, file_count, *out, &tensor));
    bool& known = seen[tensor.layer][static_cast<size_t>(tensor.role)];
    if (known) return bad_format("the " + name_of(tensor) + " occurs twice");
    known = true;
  }
  for (uint32_t layer = 0; layer < out->layers; ++layer)
    for (uint32_t role = 0; role < kRoleCount; ++role) {
      const bool needed = role >= static_cast<uint32_t>(Role::attention_norm) ||
                          (layer == 0 && role != static_cast<uint32_t>(Role::head));
      TensorSpec missing;
      missing.role = static_cast<Role>(role);
      missing.layer = layer;
      if (needed && !seen[layer][role]) return bad_format("the " + name_of(missing) + " is missing");
    }
  return ok_status();
}

}  // namespace shiftadd
