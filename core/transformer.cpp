#include "core/transformer.h"

#include <algorithm>
#include <cmath>

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
  layer_bytes_ = backend_->kv_bytes(spec.kv_heads, spec.head_size, capacity);
  SHIFTADD_TRY(backend_->allocate(layers * layer_bytes_, &keys_));
  return backend_->allocate(layers * layer_bytes_, &values_);
}

KvView KvCache::layer(uint32_t index) const {
  return {reinterpret_cast<uint8_t*>(keys_.data) + index * layer_bytes_,
          reinterpret_cast<uint8_t*>(values_.data) + index * layer_bytes_, capacity_};
}

Transformer::~Transformer() {
  for (Buffer buffer : {hidden_, normed_, query_, key_, value_, attended_, gate_, up_, projected_, angles_, logits_})
    model_.backend().release(buffer);
}

Status Transformer::allocate() {
  const ModelSpec& spec = model_.spec();
  const uint32_t q = spec.heads * spec.head_size, kv = spec.kv_heads * spec.head_size;
  const struct {
    Buffer* buffer;
    size_t columns, rows;
  } wanted[] = {{&hidden_, spec.hidden_size, kMaxRows}, {&normed_, spec.hidden_size, kMaxRows},
                {&query_, q, kMaxRows}, {&key_, kv, kMaxRows}, {&value_, kv, kMaxRows}, {&attended_, q, kMaxRows},
                {&gate_, spec.feed_forward_size, kMaxRows}, {&up_, spec.feed_forward_size, kMaxRows},
                {&projected_, spec.hidden_size, kMaxRows}, {&angles_, spec.head_size, kMaxRows},
                {&logits_, spec.vocabulary_size, kLogitRows}};
  for (const auto& item : wanted)
    SHIFTADD_TRY(model_.backend().allocate(item.columns * item.rows * sizeof(float), item.buffer));
  angle_table_.resize(size_t{kMaxRows} * spec.head_size);
  return ok_status();
}

size_t Transformer::scratch_bytes() const {
  size_t bytes = 0;
  for (Buffer buffer : {hidden_, normed_, query_, key_, value_, attended_, gate_, up_, projected_, angles_, logits_})
    bytes += buffer.bytes;
  return bytes;
}

void Transformer::embed(const int32_t* tokens, uint32_t rows) {
  model_.backend().embed(*used(model_.embedding()), tokens, rows, hidden_);
}

void Transformer::set_hidden(const float* hidden, uint32_t rows) {
  model_.backend().upload(hidden, hidden_, size_t{rows} * model_.spec().hidden_size);
}

void Transformer::get_hidden(float* hidden, uint32_t rows) const {
  model_.backend().download(hidden_, hidden, size_t{rows} * model_.spec().hidden_size);
}

void Transformer::set_angles(uint32_t position, uint32_t rows) {
  if (angles_rows_ >= rows && angles_position_ == position) return;
  const std::vector<double>& frequencies = model_.spec().rope_frequencies;
  float* out = angle_table_.data();
  for (uint32_t m = 0; m < rows; ++m)
    for (double frequency : frequencies) {
      const double angle = static_cast<double>(position + m) * frequency;
      *out++ = static_cast<float>(std::cos(angle));
      *out++ = static_cast<float>(std::sin(angle));
    }
  model_.backend().upload(angle_table_.data(), angles_, size_t{rows} * model_.spec().head_size);
  angles_position_ = position;
  angles_rows_ = rows;
}

void Transformer::run_block(uint32_t layer, KvView cache, uint32_t position, uint32_t rows, LinearObserver* observer) {
  const ModelSpec& spec = model_.spec();
  const Block& block = model_.block(layer);
  Backend& backend = model_.backend();
  const uint32_t hidden = spec.hidden_size, q = spec.heads * spec.head_size;
  const AttentionShape attention{spec.heads, spec.kv_heads, spec.head_size, spec.attention_scale};
  set_angles(position, rows);

  backend.begin(rows);
  backend.normalize(hidden_, block.attention_norm, rows, hidden, spec.norm_epsilon, normed_);
  if (observer) observer->observe(LinearInput::attention, normed_, rows, hidden);
  const LinearCall project_in[] = {{used(*block.query), query_}, {used(*block.key), key_}, {used(*block.value), value_}};
  backend.linear(project_in, normed_, rows);
  backend.rotate(query_, rows, spec.heads, spec.head_size, angles_);
  backend.rotate(key_, rows, spec.kv_heads, spec.head_size, angles_);
  backend.attend(attention, query_, key_, value_, cache, position, rows, attended_);
  if (observer) observer->observe(LinearInput::attention_output, attended_, rows, q);
  const LinearCall project_out[] = {{used(*block.attention_output), projected_}};
  backend.linear(project_out, attended_, rows);
  backend.add(hidden_, projected_, size_t{rows} * hidden);

  backend.normalize(hidden_, block.feed_forward_norm, rows, hidden, spec.norm_epsilon, normed_);
  if (observer) observer->observe(LinearInput::feed_forward, normed_, rows, hidden);
  const LinearCall expand[] = {{used(*block.gate), gate_}, {used(*block.up), up_}};
  backend.linear(expand, normed_, rows);
  backend.activate(gate_, up_, size_t{rows} * spec.feed_forward_size);
  if (observer) observer->observe(LinearInput::down, gate_, rows, spec.feed_forward_size);
  const LinearCall reduce[] = {{used(*block.down), projected_}};
  backend.linear(reduce, gate_, rows);
  backend.add(hidden_, projected_, size_t{rows} * hidden);
  backend.end();
}

Buffer Transformer::final_hidden(uint32_t first, uint32_t rows) {
  const ModelSpec& spec = model_.spec();
  const Buffer tail{hidden_.data + size_t{first} * spec.hidden_size, hidden_.bytes};
  Backend& backend = model_.backend();
  if (spec.rotation.none()) {
    backend.normalize(tail, model_.final_norm(), rows - first, spec.hidden_size, spec.norm_epsilon, normed_);
  } else {
    // The gains belong to the basis of the checkpoint, the head to that of the weights.
    backend.change_basis(spec.rotation, tail, rows - first, true, projected_);
    backend.normalize(projected_, model_.final_norm(), rows - first, spec.hidden_size, spec.norm_epsilon, normed_);
    backend.change_basis(spec.rotation, normed_, rows - first, false, normed_);
  }
  return normed_;
}

void Transformer::compute_logits(uint32_t first, uint32_t rows) {
  const Buffer x = final_hidden(first, rows);
  const LinearCall head[] = {{used(model_.head()), logits_}};
  model_.backend().linear(head, x, rows - first);
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

void Transformer::log_probabilities(uint32_t first, uint32_t rows, const int32_t* targets, float* out) {
  for (uint32_t next; first < rows; targets += next - first, out += next - first, first = next) {
    next = std::min(rows, first + kLogitRows);
    compute_logits(first, next);
    model_.backend().log_probabilities(logits_, next - first, model_.spec().vocabulary_size, targets, out);
  }
}

}  // namespace shiftadd
