#include "core/transformer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace shiftadd {
namespace {

constexpr uint32_t kLogitRows = 64;  // rows of logits computed at once: the vocabulary is wide

}  // namespace

KvCache::~KvCache() {
  if (backend_ == nullptr) return;
  backend_->release(keys_);
  backend_->release(values_);
}

Status KvCache::allocate(const Model& model, uint32_t layers, uint32_t capacity) {
  const ModelSpec& spec = model.spec();
  backend_ = &model.backend();
  capacity_ = capacity;
  layers_ = layers;
  kv_heads_ = spec.kv_heads;
  head_size_ = spec.head_size;
  SHIFTADD_TRY(backend_->reserve(capacity, spec.hidden_size));
  layer_bytes_ = backend_->kv_bytes(spec.kv_heads, spec.head_size, capacity);
  SHIFTADD_TRY(backend_->allocate(layers * layer_bytes_, &keys_));
  return backend_->allocate(layers * layer_bytes_, &values_);
}

KvView KvCache::layer(uint32_t index) const {
  return {reinterpret_cast<uint8_t*>(keys_.data) + index * layer_bytes_,
          reinterpret_cast<uint8_t*>(values_.data) + index * layer_bytes_, capacity_};
}

uint64_t KvCache::position_bytes() const { return layers_ * backend_->kv_position_bytes(kv_heads_, head_size_); }

void KvCache::read(uint32_t first, uint32_t count, uint8_t* host) const {
  const size_t stride = position_bytes(), part = stride / layers_;
  for (uint32_t index = 0; index < layers_; ++index)
    backend_->read_kv(layer(index), kv_heads_, head_size_, first, count, host + index * part, stride);
}

void KvCache::write(uint32_t first, uint32_t count, const uint8_t* host) {
  const size_t stride = position_bytes(), part = stride / layers_;
  for (uint32_t index = 0; index < layers_; ++index)
    backend_->write_kv(layer(index), kv_heads_, head_size_, first, count, host + index * part, stride);
}

Transformer::~Transformer() {
  for (Buffer buffer : {hidden_, normed_, query_, key_, value_, attended_, gate_, up_, projected_, embedded_, angles_, logits_})
    model_.backend().release(buffer);
}

Status Transformer::allocate() {
  const ModelSpec& spec = model_.spec();
  const uint32_t q = spec.heads * spec.head_size, kv = spec.kv_heads * spec.head_size;
  const struct {
    Buffer* buffer;
    uint64_t columns, rows;
  } wanted[] = {{&hidden_, spec.hidden_size, kMaxRows}, {&normed_, spec.hidden_size, kMaxRows},
                {&query_, q, kMaxRows}, {&key_, kv, kMaxRows}, {&value_, kv, kMaxRows}, {&attended_, q, kMaxRows},
                {&gate_, spec.feed_forward_size, kMaxRows}, {&up_, spec.gated ? spec.feed_forward_size : 0, kMaxRows},
                {&projected_, spec.hidden_size, kMaxRows},
                {&embedded_, spec.embedding_size == spec.hidden_size ? 0 : spec.embedding_size, kMaxRows},
                {&angles_, spec.rotary.size() * spec.rotary_size, kMaxRows}, {&logits_, spec.vocabulary_size, kLogitRows}};
  for (const auto& item : wanted)
    SHIFTADD_TRY(model_.backend().allocate(item.columns * item.rows * sizeof(float), item.buffer));
  angle_table_.resize(spec.rotary.size() * kMaxRows * spec.rotary_size);
  return ok_status();
}

size_t Transformer::scratch_bytes() const {
  size_t bytes = 0;
  for (Buffer buffer : {hidden_, normed_, query_, key_, value_, attended_, gate_, up_, projected_, embedded_, angles_, logits_})
    bytes += buffer.bytes;
  return bytes;
}

void Transformer::embed(const int32_t* tokens, uint32_t position, uint32_t rows) {
  const ModelSpec& spec = model_.spec();
  Backend& backend = model_.backend();
  const bool narrow = spec.embedding_size != spec.hidden_size;
  const Buffer out = narrow ? embedded_ : hidden_;
  backend.embed(*used(model_.embedding()), tokens, rows, out);
  if (spec.embedding_factor != 1) backend.scale(out, size_t{rows} * spec.embedding_size, spec.embedding_factor);
  if (narrow) {
    const LinearCall widen[] = {{model_.weights(Role::project_in), hidden_}};
    backend.linear(widen, embedded_, rows);
  }
  if (const Weights* positions = model_.weights(Role::position_embedding)) {
    int32_t indices[kMaxRows];
    std::iota(indices, indices + rows, static_cast<int32_t>(spec.first_position + position));
    backend.embed(*positions, indices, rows, projected_);
    backend.add(hidden_, projected_, size_t{rows} * spec.hidden_size);
  }
  normalize(model_.vector(Role::embedding_norm), model_.vector(Role::embedding_norm_bias), hidden_, rows, hidden_);
}

void Transformer::set_hidden(const float* hidden, uint32_t rows) {
  model_.backend().upload(hidden, hidden_, size_t{rows} * model_.spec().hidden_size);
}

void Transformer::get_hidden(float* hidden, uint32_t rows) const {
  model_.backend().download(hidden_, hidden, size_t{rows} * model_.spec().hidden_size);
}

void Transformer::set_beyond_switch(bool beyond) { beyond_switch_ = beyond; }

void Transformer::set_angles(uint32_t position, uint32_t rows) {
  const ModelSpec& spec = model_.spec();
  if (spec.rotary.empty() || spec.rotary_size == 0 || (angles_rows_ >= rows && angles_position_ == position)) return;
  for (size_t set = 0; set < spec.rotary.size(); ++set) {
    const auto& [factor, frequencies] = spec.rotary[set];
    const size_t first = set * kMaxRows * spec.rotary_size;
    float* out = angle_table_.data() + first;
    for (uint32_t m = 0; m < rows; ++m)
      for (double frequency : frequencies) {
        const double angle = static_cast<double>(position + m) * frequency;
        *out++ = static_cast<float>(std::cos(angle) * factor);
        *out++ = static_cast<float>(std::sin(angle) * factor);
      }
    model_.backend().upload(angle_table_.data() + first, {angles_.data + first, angles_.bytes}, size_t{rows} * spec.rotary_size);
  }
  angles_position_ = position;
  angles_rows_ = rows;
}

void Transformer::add_bias(Role bias, uint32_t layer, Buffer x, uint32_t rows, uint32_t columns) {
  const Buffer values = model_.vector(bias, layer);
  if (values.data != nullptr) model_.backend().add_bias(x, values, rows, columns);
}

void Transformer::normalize(Buffer gain, Buffer bias, Buffer x, uint32_t rows, Buffer out) {
  const ModelSpec& spec = model_.spec();
  if (gain.data == nullptr) return;
  model_.backend().normalize(x, {gain, bias, spec.layer_norm, spec.norm_epsilon}, rows, spec.hidden_size, out);
}

// What the attention adds to the hidden states, into projected_.
void Transformer::attend(uint32_t layer, Buffer x, KvView cache, uint32_t position, uint32_t rows, LinearObserver* observer) {
  const ModelSpec& spec = model_.spec();
  Backend& backend = model_.backend();
  const uint32_t q = spec.heads * spec.head_size, kv = spec.kv_heads * spec.head_size;
  const auto& [window, rotary] = spec.layer_specs[layer];
  if (observer) observer->observe(LinearInput::attention, x, rows, spec.hidden_size);
  const LinearCall calls[] = {{used(*model_.weights(Role::query, layer)), query_},
                              {used(*model_.weights(Role::key, layer)), key_},
                              {used(*model_.weights(Role::value, layer)), value_}};
  backend.linear(calls, x, rows);
  add_bias(Role::query_bias, layer, query_, rows, q);
  add_bias(Role::key_bias, layer, key_, rows, kv);
  add_bias(Role::value_bias, layer, value_, rows, kv);
  const auto normalize_heads = [&](Role gain, Buffer heads, uint32_t count) {
    const NormShape norm{model_.vector(gain, layer), {}, false, spec.norm_epsilon};
    if (norm.gain.data != nullptr) backend.normalize(heads, norm, rows * count, spec.head_size, heads);
  };
  normalize_heads(Role::query_norm, query_, spec.heads);
  normalize_heads(Role::key_norm, key_, spec.kv_heads);
  if (rotary >= 0) {
    const size_t set = static_cast<size_t>(rotary) + (beyond_switch_ ? 1 : 0);
    const Buffer angles{angles_.data + set * kMaxRows * spec.rotary_size, angles_.bytes};
    backend.rotate(query_, rows, spec.heads, spec.head_size, spec.rotary_size, angles);
    backend.rotate(key_, rows, spec.kv_heads, spec.head_size, spec.rotary_size, angles);
  }
  const AttentionShape shape{spec.heads, spec.kv_heads, spec.head_size, spec.attention_scale, window, spec.attention_cap,
                             spec.slopes};
  backend.attend(shape, query_, key_, value_, cache, position, rows, attended_);
  if (observer) observer->observe(LinearInput::attention_output, attended_, rows, q);
  const LinearCall project[] = {{used(*model_.weights(Role::attention_output, layer)), projected_}};
  backend.linear(project, attended_, rows);
  add_bias(Role::attention_output_bias, layer, projected_, rows, spec.hidden_size);
  normalize(model_.vector(Role::post_attention_norm, layer), {}, projected_, rows, projected_);
}

// What the feed-forward layers add to the hidden states, into projected_.
void Transformer::feed_forward(uint32_t layer, Buffer x, uint32_t rows, LinearObserver* observer) {
  const ModelSpec& spec = model_.spec();
  Backend& backend = model_.backend();
  const uint32_t width = spec.feed_forward_size;
  if (observer) observer->observe(LinearInput::feed_forward, x, rows, spec.hidden_size);
  const Buffer up = spec.gated ? up_ : gate_;  // what the activation multiplies with, or works on
  const LinearCall calls[] = {{used(*model_.weights(Role::up, layer)), up},
                              {spec.gated ? used(*model_.weights(Role::gate, layer)) : nullptr, gate_}};
  backend.linear({calls, spec.gated ? 2u : 1u}, x, rows);
  add_bias(Role::up_bias, layer, up, rows, width);
  add_bias(Role::gate_bias, layer, gate_, rows, width);
  backend.activate(spec.activation, gate_, spec.gated ? up_ : Buffer{}, size_t{rows} * width);
  if (observer) observer->observe(LinearInput::down, gate_, rows, width);
  const LinearCall reduce[] = {{used(*model_.weights(Role::down, layer)), projected_}};
  backend.linear(reduce, gate_, rows);
  add_bias(Role::down_bias, layer, projected_, rows, spec.hidden_size);
  normalize(model_.vector(Role::post_feed_forward_norm, layer), {}, projected_, rows, projected_);
}

void Transformer::begin_step(uint32_t position, uint32_t rows) {
  set_angles(position, rows);
  model_.backend().begin(rows, position);
}

void Transformer::end_step() { model_.backend().end(); }

void Transformer::run_block(uint32_t layer, KvView cache, uint32_t position, uint32_t rows, LinearObserver* observer) {
  const ModelSpec& spec = model_.spec();
  Backend& backend = model_.backend();
  const size_t count = size_t{rows} * spec.hidden_size;
  const auto attention_norm = [&](Buffer out) {
    normalize(model_.vector(Role::attention_norm, layer), model_.vector(Role::attention_norm_bias, layer), hidden_, rows, out);
  };
  const auto feed_forward_norm = [&](Buffer out) {
    normalize(model_.vector(Role::feed_forward_norm, layer), model_.vector(Role::feed_forward_norm_bias, layer), hidden_, rows, out);
  };
  set_angles(position, rows);
  if (spec.norm_behind) {
    attend(layer, hidden_, cache, position, rows, observer);
    backend.add(hidden_, projected_, count);
    attention_norm(hidden_);
    feed_forward(layer, hidden_, rows, observer);
    backend.add(hidden_, projected_, count);
    feed_forward_norm(hidden_);
  } else {
    attention_norm(normed_);
    attend(layer, normed_, cache, position, rows, observer);
    if (spec.parallel_blocks) feed_forward_norm(normed_);
    backend.add(hidden_, projected_, count);
    if (!spec.parallel_blocks) feed_forward_norm(normed_);
    feed_forward(layer, normed_, rows, observer);
    backend.add(hidden_, projected_, count);
  }
}

Buffer Transformer::rows_from(uint32_t first) const {
  return {hidden_.data + size_t{first} * model_.spec().hidden_size, hidden_.bytes};
}

Buffer Transformer::narrow(Buffer states, uint32_t rows) {
  if (model_.spec().embedding_size == model_.spec().hidden_size) return states;
  const LinearCall calls[] = {{model_.weights(Role::project_out), embedded_}};
  model_.backend().linear(calls, states, rows);
  return embedded_;
}

Buffer Transformer::output_states(uint32_t first, uint32_t rows) {
  const ModelSpec& spec = model_.spec();
  if (spec.rotation.none() || spec.embedding_size != spec.hidden_size) return final_hidden(first, rows);
  const Buffer gain = model_.vector(Role::final_norm);
  model_.backend().change_basis(spec.rotation, rows_from(first), rows - first, true, projected_);
  if (gain.data == nullptr) return projected_;
  normalize(gain, model_.vector(Role::final_norm_bias), projected_, rows - first, normed_);
  return normed_;
}

Buffer Transformer::final_hidden(uint32_t first, uint32_t rows) {
  const ModelSpec& spec = model_.spec();
  const Buffer tail = rows_from(first);
  const uint32_t count = rows - first;
  Backend& backend = model_.backend();
  const Buffer gain = model_.vector(Role::final_norm), bias = model_.vector(Role::final_norm_bias);
  if (gain.data == nullptr) return narrow(tail, count);
  if (spec.rotation.none()) {
    normalize(gain, bias, tail, count, normed_);
  } else {
    // The gains belong to the basis of the checkpoint, the head to that of the weights.
    backend.change_basis(spec.rotation, tail, count, true, projected_);
    normalize(gain, bias, projected_, count, normed_);
    backend.change_basis(spec.rotation, normed_, count, false, normed_);
  }
  return narrow(normed_, count);
}

void Transformer::compute_logits(uint32_t first, uint32_t rows) {
  const Buffer x = final_hidden(first, rows);
  const LinearCall head[] = {{used(model_.head()), logits_}};
  model_.backend().linear(head, x, rows - first);
  const ModelSpec& spec = model_.spec();
  if (spec.logit_cap > 0) model_.backend().soft_cap(logits_, size_t{rows - first} * spec.vocabulary_size, spec.logit_cap);
}

void Transformer::logits(uint32_t first, uint32_t rows, float* out) {
  const size_t vocabulary = model_.spec().vocabulary_size;
  for (uint32_t next; first < rows; first = next) {
    next = std::min(rows, first + kLogitRows);
    compute_logits(first, next);
    model_.backend().download(logits_, out, (next - first) * vocabulary);
    out += (next - first) * vocabulary;
  }
}

void Transformer::compute_last_logits(uint32_t rows) { compute_logits(rows - 1, rows); }

int32_t Transformer::largest_logit() { return model_.backend().largest(logits_, model_.spec().vocabulary_size); }

void Transformer::read_logits(float* out) const { model_.backend().download(logits_, out, model_.spec().vocabulary_size); }

void Transformer::log_probabilities(uint32_t first, uint32_t rows, const int32_t* targets, float* out) {
  for (uint32_t next; first < rows; targets += next - first, out += next - first, first = next) {
    next = std::min(rows, first + kLogitRows);
    compute_logits(first, next);
    model_.backend().log_probabilities(logits_, next - first, model_.spec().vocabulary_size, targets, out);
  }
}

}  // namespace shiftadd
