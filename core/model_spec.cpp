#include "core/model_spec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "core/tensor_spec.h"

namespace shiftadd {
namespace {

Status parse_header(SpecReader& reader, ModelSpec* out) {
  const double* numbers = reader.numbers;
  out->vocabulary_size = reader.integer32(1, 1, 1 << 24);
  out->hidden_size = reader.integer32(2, 1, 1 << 20);
  out->layers = reader.integer32(3, 1, 1 << 12);
  out->heads = reader.integer32(4, 1, 1 << 12);
  out->kv_heads = reader.integer32(5, 1, 1 << 12);
  out->head_size = reader.integer32(6, 1, 1 << 12);
  out->feed_forward_size = reader.integer32(7, 1, 1 << 22);
  out->context_limit = reader.integer32(8, 1, 1 << 24);
  out->norm_epsilon = static_cast<float>(numbers[9]);
  out->attention_scale = static_cast<float>(numbers[10]);
  out->rotary_size = reader.integer32(14, 0, out->head_size);
  out->layer_norm = reader.flag(15);
  out->norm_behind = reader.flag(16);
  out->parallel_blocks = reader.flag(17);
  out->activation = static_cast<Activation>(reader.integer32(18, 0, kActivationCount - 1));
  out->gated = reader.flag(19);
  out->embedding_size = reader.integer32(20, 1, 1 << 20);
  out->embedding_factor = static_cast<float>(numbers[21]);
  out->attention_cap = static_cast<float>(numbers[22]);
  out->logit_cap = static_cast<float>(numbers[23]);
  out->first_position = reader.integer32(24, 0, 1 << 10);
  out->rotary_switch = reader.integer32(26, 0, 1 << 24);
  const auto is_cap = [](float cap) { return cap >= 0 && std::isfinite(cap); };
  if (!reader.ok || !(out->norm_epsilon > 0 && out->norm_epsilon < 1) || !std::isfinite(out->attention_scale) ||
      !std::isfinite(out->embedding_factor) || !is_cap(out->attention_cap) || !is_cap(out->logit_cap))
    return bad_format("model description: a hyperparameter is out of range");
  if (out->heads % out->kv_heads != 0) return bad_format("the heads are not a multiple of the key/value heads");
  if (out->rotary_size % 2 != 0) return bad_format("the rotary size is odd");
  if (uint64_t{out->heads} * out->head_size > 1 << 24) return bad_format("the heads are too wide");
  if (out->norm_behind && out->parallel_blocks) return bad_format("blocks with norms behind the sums cannot be parallel");
  return ok_status();
}

Status parse_positions(const double* numbers, uint32_t sets, ModelSpec* out) {
  const size_t frequencies = out->rotary_size / 2;
  out->rotary.resize(sets);
  for (RotarySet& set : out->rotary) {
    set.factor = *numbers++;
    set.frequencies.assign(numbers, numbers + frequencies);
    numbers += frequencies;
    if (!std::isfinite(set.factor) || !std::all_of(set.frequencies.begin(), set.frequencies.end(),
                                                   [](double frequency) { return std::isfinite(frequency); }))
      return bad_format("a rotary frequency or factor is not a finite number");
  }
  for (float& slope : out->slopes) {
    slope = static_cast<float>(*numbers++);
    if (!std::isfinite(slope)) return bad_format("an ALiBi slope is not a finite number");
  }
  out->layer_specs.resize(out->layers);
  for (LayerSpec& layer : out->layer_specs) {
    SpecReader reader{numbers};
    numbers += kSpecLayer;
    layer.window = reader.integer32(0, 0, 1 << 24);
    layer.rotary = static_cast<int32_t>(reader.numbers[1] == -1 ? -1 : static_cast<int32_t>(reader.integer32(1, 0, sets - 1.0)));
    // Beyond the switch a layer takes the set after its own.
    if (!reader.ok || (out->rotary_switch > 0 && layer.rotary + 1 >= static_cast<int32_t>(sets)))
      return bad_format("model description: a layer has a window or rotary set that is out of range");
  }
  return ok_status();
}

bool is_needed(const ModelSpec& spec, Role role) {
  switch (role) {
    case Role::embedding: case Role::attention_norm: case Role::query: case Role::key: case Role::value:
    case Role::attention_output: case Role::feed_forward_norm: case Role::up: case Role::down: return true;
    case Role::final_norm: return !spec.norm_behind;
    case Role::gate: return spec.gated;
    case Role::project_in: case Role::project_out: return spec.embedding_size != spec.hidden_size;
    default: return false;
  }
}

// Roles that the hyperparameters have no use for.
bool is_useless(const ModelSpec& spec, Role role) {
  switch (role) {
    case Role::gate: case Role::gate_bias: return !spec.gated;
    case Role::project_in: case Role::project_out: return spec.embedding_size == spec.hidden_size;
    case Role::embedding_norm_bias: case Role::final_norm_bias: case Role::attention_norm_bias:
    case Role::feed_forward_norm_bias: return !spec.layer_norm;
    default: return false;
  }
}

}  // namespace

bool ModelSpec::llama_like() const {
  const bool plain = std::all_of(tensors.begin(), tensors.end(), [&](const TensorSpec& tensor) {
    return tensor.role == Role::head || tensor.role == Role::gate || is_needed(*this, tensor.role);
  });
  const bool one_set = std::all_of(layer_specs.begin(), layer_specs.end(),
                                   [](const LayerSpec& layer) { return layer.window == 0 && layer.rotary == 0; });
  return plain && one_set && !layer_norm && !norm_behind && !parallel_blocks && activation == Activation::silu && gated &&
         embedding_size == hidden_size && embedding_factor == 1 && attention_cap == 0 && logit_cap == 0 && slopes.empty() &&
         rotary_size == head_size && rotary_switch == 0;
}

Status parse_model_spec(const double* numbers, size_t count, size_t file_count, ModelSpec* out) {
  if (numbers == nullptr || count < kSpecHeader || numbers[0] != kSpecVersion)
    return bad_format("model description: wrong version");
  SpecReader reader{numbers};
  SHIFTADD_TRY(parse_header(reader, out));
  const uint32_t sets = reader.integer32(11, 0, 64);
  const uint64_t tensors = reader.integer(12, 1, 1 << 20), size = reader.integer(13, 0, Rotation::kMaxSize);
  out->slopes.resize(reader.flag(25) ? out->heads : 0);
  const uint64_t positions = uint64_t{sets} * (1 + out->rotary_size / 2) + out->slopes.size() + kSpecLayer * out->layers;
  const uint64_t signs = size == 0 ? 0 : out->hidden_size + size * size;
  if (!reader.ok || count != kSpecHeader + positions + signs + tensors * kSpecTensor)
    return bad_format("model description: wrong length");
  SHIFTADD_TRY(parse_positions(numbers + kSpecHeader, sets, out));

  const double* next = numbers + kSpecHeader + positions;
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
    SHIFTADD_TRY(parse_tensor_spec(next + i * kSpecTensor, file_count, *out, &tensor));
    bool& known = seen[tensor.layer][static_cast<size_t>(tensor.role)];
    if (known) return bad_format("the " + name_of(tensor) + " occurs twice");
    if (is_useless(*out, tensor.role)) return bad_format("the " + name_of(tensor) + " has no place in this model");
    known = true;
  }
  for (uint32_t layer = 0; layer < out->layers; ++layer)
    for (uint32_t role = 0; role < kRoleCount; ++role) {
      TensorSpec missing;
      missing.role = static_cast<Role>(role);
      missing.layer = layer;
      if ((layer > 0 && !is_in_block(missing.role)) || !is_needed(*out, missing.role)) continue;
      if (!seen[layer][role]) return bad_format("the " + name_of(missing) + " is missing");
    }
  return ok_status();
}

}  // namespace shiftadd
